"""Worker pods: how many, and what each has."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from raytrainer.config.kubernetes import Kubernetes
from raytrainer.config.section import Scaling
from raytrainer.launch.manifest_request import Range, Request

_CORES_BESIDE_A_DEVICE = 4.0
_CHIPS_A_HOST = 4
# Generations of which a slice of up to 8 chips is one host; what GKE calls a node with a TPU.
_SMALL_SLICES = {"V5LITEPOD", "V6E"}
_GKE_TPUS = {
    "V4": "tpu-v4-podslice",
    "V5LITEPOD": "tpu-v5-lite-podslice",
    "V5P": "tpu-v5p-slice",
    "V6E": "tpu-v6e-slice",
}


@dataclass(frozen=True)
class Pods:
    """The worker pods of a run.

    Args:
        groups: the least and the most groups of pods; a group is one pod, of TPUs the hosts of a slice.
        hosts: pods of a group.
        limits: what a pod has, as Kubernetes names it.
        custom: what else Ray is told that a pod has.
        labels: labels of Ray's node.
        node_selector: labels of nodes that have the device.
    """

    groups: Range
    hosts: int
    limits: dict[str, str]
    custom: dict[str, str]
    labels: dict[str, str]
    node_selector: dict[str, str]

    @property
    def grow(self) -> bool:
        """Whether an autoscaler changes their number."""
        return self.groups[0] < self.groups[1]


def pods_of(asked: Request) -> Pods:
    """Return the worker pods that a request comes to; its rules hold."""
    kubernetes, scaling = asked.asked, asked.scaling
    number = number_of_pods(asked)
    assert number is not None, "a rule says so"
    hosts = hosts_of_slice(scaling)
    resources, times = worker_resources(scaling), workers_of_pod(asked)
    devices = {kubernetes.gpu: resources.get("GPU", 0.0), "google.com/tpu": resources.get("TPU", 0.0)}
    limits = {
        "cpu": f"{cores(kubernetes, scaling) * times:g}",
        "memory": multiplied(kubernetes.memory, times),
        **{name: f"{math.ceil(amount * times - 1e-9)}" for name, amount in devices.items() if amount},
    }
    known = ("CPU", "GPU", "TPU", "memory")
    custom = {name: f"{math.ceil(amount * times)}" for name, amount in resources.items() if name not in known}
    groups = (number[0] // hosts, number[1] // hosts)
    if scaling.accelerator_type and not scaling.use_tpu and groups[0] < groups[1]:
        # A node says itself what it has; the autoscaler wants to know before there is one.
        custom[f"accelerator_type:{scaling.accelerator_type}"] = "1"
    plain = {name: value for name, value in (scaling.label_selector or {}).items() if not re.match(r"!|in\(", value)}
    return Pods(groups, hosts, limits, custom, plain, tpu_nodes(scaling))


def number_of_pods(asked: Request) -> Range | None:
    """Return the least and the most worker pods; None where nothing says how many."""
    pods = asked.asked.pods
    if isinstance(pods, list):
        return pods[0], pods[1]
    if pods is not None:
        return pods, pods
    if asked.workers is None:
        return None
    low, high = (math.ceil(number / workers_of_pod(asked)) for number in asked.workers)
    return low, high


def workers_of_pod(asked: Request) -> int:
    """Return how many workers share a pod: as many as there are, if there are few."""
    times = asked.asked.workers_per_pod
    return min(times, asked.workers[1]) if asked.workers else times


def worker_resources(scaling: Scaling) -> dict[str, float]:
    """Return what a worker asks Ray for, defaults as Ray Train has them."""
    asked = {name: amount for name, amount in (scaling.resources_per_worker or {}).items() if amount}
    if scaling.use_gpu:
        asked.setdefault("GPU", 1.0)
    if scaling.use_tpu:
        asked.setdefault("TPU", float(chips_of_host(scaling)))
    return asked or {"CPU": 1.0}


def cores(kubernetes: Kubernetes, scaling: Scaling) -> float:
    """Return the CPU cores of a worker."""
    if kubernetes.cpus is not None:
        return kubernetes.cpus
    device = scaling.use_gpu or scaling.use_tpu
    return worker_resources(scaling).get("CPU", _CORES_BESIDE_A_DEVICE if device else 1.0)


def multiplied(quantity: str, times: int) -> str:
    """Return an amount of memory for several workers: 2 x 1.5Gi is 3Gi."""
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity).groups()  # type: ignore[union-attr]  # its pattern
    return f"{float(number) * times:.12g}{unit}"


def generation(scaling: Scaling) -> str:
    """Return the TPU's generation: V6E of TPU-V6E."""
    return (scaling.accelerator_type or "").upper().removeprefix("TPU-")


def known_tpu(scaling: Scaling) -> bool:
    """Tell whether type and topology say which nodes have such TPUs."""
    return generation(scaling) in _GKE_TPUS and re.fullmatch(r"\d+(x\d+){1,2}", scaling.topology or "") is not None


def _chips(scaling: Scaling) -> int:
    return math.prod(int(edge) for edge in (scaling.topology or "1").split("x"))


def chips_of_host(scaling: Scaling) -> int:
    """Return the chips that one host of a TPU slice has."""
    if generation(scaling) in _SMALL_SLICES and scaling.topology in ("1x1", "2x2", "2x4"):
        return _chips(scaling)
    return _CHIPS_A_HOST


def hosts_of_slice(scaling: Scaling) -> int:
    """Return the hosts of a TPU slice; 1 for everything else."""
    if not scaling.use_tpu:
        return 1
    return max(1, _chips(scaling) // int(worker_resources(scaling)["TPU"]))


def tpu_nodes(scaling: Scaling) -> dict[str, str]:
    """Return the labels of GKE's nodes that have the TPUs."""
    if not scaling.use_tpu:
        return {}
    gke = "cloud.google.com/gke-tpu"
    return {f"{gke}-accelerator": _GKE_TPUS[generation(scaling)], f"{gke}-topology": scaling.topology or ""}

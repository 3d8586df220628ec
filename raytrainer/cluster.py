"""Connects to a Ray cluster or starts one here, and holds a request against what the cluster has."""

from __future__ import annotations

import dataclasses
import math
import os
import socket
from typing import Any

import ray
from ray.train.v2.api.config import ScalingConfig

from raytrainer.errors import Problem, ResourcesError


def connect(cpus_needed: int, address: str | None = None) -> None:
    """Make sure that this program is connected to Ray.

    A program that called ``ray.init`` keeps what it has; else ``RAY_ADDRESS`` names the cluster; else Ray is started
    on this machine, with a slot for every worker even where there are fewer cores.

    Args:
        cpus_needed: CPU slots that the job asks for.
        address: of the cluster, in the place of ``RAY_ADDRESS``.

    Raises:
        ResourcesError: there is no cluster at the address.
    """
    if ray.is_initialized():
        return
    if there := address or os.environ.get("RAY_ADDRESS"):
        try:
            _knock(there)
            ray.init(address=there)
        except (ConnectionError, ValueError) as error:
            setting = "--address" if address else "RAY_ADDRESS"
            fix = "the address that ray start printed, or none to start Ray on this machine"
            raise ResourcesError(Problem(setting, there, str(error).splitlines()[0], fix)) from error
        return
    # "local": without an address Ray joins a cluster that somebody else left on this machine.
    ray.init(address="local", num_cpus=max(os.cpu_count() or 1, cpus_needed), include_dashboard=False)


def _knock(address: str) -> None:
    """Find out in seconds that nobody is there, which takes Ray minutes."""
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise ConnectionError(f"nobody answers there: {error}") from error


def default_scaling() -> ScalingConfig:
    """Return one worker a GPU of the cluster, or one CPU worker where it has no GPU."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    return ScalingConfig(num_workers=max(gpus, 1), use_gpu=gpus > 0)


def one_a_gpu(scaling: ScalingConfig) -> ScalingConfig:
    """Return a request with as many workers as the cluster has GPUs, or with one where it asks for none."""
    workers = default_scaling().max_workers if scaling.use_gpu else 1
    return dataclasses.replace(scaling, num_workers=workers)


def worker_resources(scaling: ScalingConfig) -> dict[str, float]:
    """Return what one worker asks for, by Ray's resource names, without zeros."""
    asked: dict[str, Any] = scaling._resources_per_worker_not_none
    return {name: float(amount) for name, amount in asked.items() if amount}


def cpus(scaling: ScalingConfig | None) -> int:
    """Return the CPU slots that all workers ask for."""
    if scaling is None:
        return 1
    return math.ceil(worker_resources(scaling).get("CPU", 0.0) * scaling.max_workers)


def check_supply(scaling: ScalingConfig, fewest: int) -> None:
    """Refuse at once a request that the cluster can never meet, where Ray would wait without end.

    Args:
        scaling: the request.
        fewest: the number of workers that it takes to begin.

    Raises:
        ResourcesError: with request and supply side by side.
    """
    if grows():
        return
    asked = worker_resources(scaling)
    nodes: list[dict[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    slots = room(asked, nodes)
    if slots >= fewest:
        return
    supply = {name: sum(node.get(name, 0.0) for node in nodes) for name in asked}
    raise ResourcesError(
        Problem(
            setting="scaling_config.num_workers",
            value=scaling.num_workers,
            reason=f"each worker asks for {_list(asked)}; the cluster has {_list(supply)} on {len(nodes)} node(s),"
            f" room for {slots} worker(s), and no autoscaler that could bring more",
            fix=f"ScalingConfig(num_workers={max(slots, 1)}, ...) (raytrainer run: -n {max(slots, 1)}),"
            " or a cluster that is larger",
        )
    )


def room_for(scaling: ScalingConfig) -> int:
    """Count the workers for which the cluster has room when nothing else runs."""
    return room(worker_resources(scaling), [node["Resources"] for node in ray.nodes() if node["Alive"]])


def room(asked: dict[str, float], nodes: list[dict[str, float]]) -> int:
    """Count the workers that fit on the nodes, each worker on one node.

    Args:
        asked: what one worker asks for, at least one resource.
        nodes: what each node has in all.

    Returns:
        The number of workers.
    """
    return sum(min(int(node.get(name, 0.0) / amount + 1e-9) for name, amount in asked.items()) for node in nodes)


def _list(resources: dict[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items()) or "nothing"


def grows() -> bool:
    """Tell whether the cluster has an autoscaler that could bring more."""
    # The only place where Ray 2.60 says so; None on a cluster without an autoscaler's configuration.
    return ray._private.state.state.get_max_resources_from_cluster_config() is not None

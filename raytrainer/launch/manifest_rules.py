"""What cannot be right on Kubernetes, though each setting is right by itself."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from raytrainer.config.view import Finding
from raytrainer.config.wording import seen, setting
from raytrainer.errors import ConfigError, Problem
from raytrainer.launch.manifest_request import Request
from raytrainer.launch.manifest_rules_job import deadlines, existing, mlflow, spot, storage
from raytrainer.launch.manifest_secrets import literal_secrets, unknown_variables
from raytrainer.launch.manifest_size import (
    cores,
    hosts_of_slice,
    known_tpu,
    number_of_pods,
    worker_resources,
    workers_of_pod,
)

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?")


def object_name(asked: Request) -> str:
    """Return what job or cluster are called: as asked, else the run's name in Kubernetes' letters."""
    return asked.asked.name or re.sub(r"[._]", "-", asked.name.lower())


def check(asked: Request) -> None:
    """Hold a request against the rules.

    Raises:
        ConfigError: with everything that is wrong.
    """
    rules = [_name, _number, _tpu, _pod, _tolerations, _queue, spot, deadlines]
    if asked.kind == "RayJob":
        rules += [storage, existing, mlflow]
    found = [finding for rule in rules for finding in rule(asked)]
    root = asked.root
    problems = [Problem(setting(path, root), seen(root.at(path)), reason, fix) for path, reason, fix in found]
    problems += [*literal_secrets(asked), *(unknown_variables(asked) if asked.kind == "RayJob" else [])]
    if problems:
        raise ConfigError(*problems)


def _name(asked: Request) -> Iterator[Finding]:
    name = object_name(asked)
    if not _NAME.fullmatch(name):
        reason = f"the job's name follows from it, and Kubernetes takes no {name}"
        yield ("name",), reason, "kubernetes.name: small letters, digits and dashes, a letter first, 47 at most"


def _number(asked: Request) -> Iterator[Finding]:
    pods = asked.asked.pods
    if isinstance(pods, list) and (pods[0] > pods[1] or pods[1] == 0):
        yield ("kubernetes", "pods"), "the least comes before the most, and the most is at least 1", "[0, 4]"
        return
    number = number_of_pods(asked)
    if number is not None and asked.together is not None and asked.together > number[1] * workers_of_pod(asked):
        what = "the run" if asked.command == "train" else "a trial"
        reason = f"{what} takes {asked.together} workers, {workers_of_pod(asked)} a pod, and would wait without end"
        yield ("kubernetes", "pods"), reason, f"{math.ceil(asked.together / workers_of_pod(asked))}, or more"
    if number is not None:
        return
    if asked.command == "tune":
        reason = "the number of pods follows from it, and auto follows from the number of pods"
        path = ("tune", "max_concurrent_trials")
        if isinstance(asked.root.value["tune"].plain().get("max_concurrent_trials"), int):
            path, reason = ("search_space", "scaling.num_workers"), "how many workers that comes to is not known"
        yield path, reason, "tune.max_concurrent_trials: 4, for example, or kubernetes.pods"
    else:
        reason = "the number of pods follows from it, and nothing says how many"
        yield ("scaling", "num_workers"), reason, "scaling.num_workers: 4, for example, or kubernetes.pods"


def _tpu(asked: Request) -> Iterator[Finding]:
    scaling, number = asked.scaling, number_of_pods(asked)
    if not scaling.use_tpu:
        return
    if not known_tpu(scaling):
        path = ("scaling", "topology") if scaling.accelerator_type else ("scaling", "accelerator_type")
        reason = "which nodes have such TPUs follows from accelerator_type and topology"
        yield path, reason, "accelerator_type: TPU-V6E (TPU-V5P, TPU-V5LITEPOD, TPU-V4) and topology: 4x4, for example"
        return
    if asked.asked.workers_per_pod > 1:
        yield ("kubernetes", "workers_per_pod"), "a worker has a TPU host to itself", "1"
        return
    hosts = hosts_of_slice(scaling)
    if number is not None and any(count % hosts for count in number):
        path = ("kubernetes", "pods") if asked.asked.pods is not None else ("scaling", "num_workers")
        reason = f"a slice of topology {scaling.topology} is {hosts} hosts, a worker each"
        yield path, reason, f"a multiple of {hosts}"


def _pod(asked: Request) -> Iterator[Finding]:
    kubernetes, scaling = asked.asked, asked.scaling
    resources = worker_resources(scaling)
    swept = asked.root.value.get("search_space")
    for key in swept.value if swept is not None else ():
        if key.startswith("scaling.") and key != "scaling.num_workers":
            reason = "all worker pods are alike, and trials with other resources need others"
            yield ("search_space", key), reason, "a sweep for each, or scaling.num_workers alone"
    times = workers_of_pod(asked)
    total = resources.get("GPU", 0.0) * times
    if abs(total - round(total)) > 1e-6:
        reason = f"pods have whole GPUs, and {times} worker(s) with {resources['GPU']:g} come to"
        fix = "kubernetes.workers_per_pod: as many as share whole GPUs"
        yield ("scaling", "resources_per_worker"), f"{reason} {total:g}", fix
    if resources.get("CPU", 0.0) > cores(kubernetes, scaling):
        reason = f"a worker asks for {resources['CPU']:g} (scaling.resources_per_worker)"
        yield ("kubernetes", "cpus"), reason, f"{resources['CPU']:g}"


def _tolerations(asked: Request) -> Iterator[Finding]:
    for number, one in enumerate(asked.asked.tolerations):
        if (one.operator == "Equal") != (one.value is not None) or (one.key is None and one.operator == "Equal"):
            reason = "operator Equal goes with a key and a value, Exists without a value"
            yield ("kubernetes", "tolerations", number), reason, "{key: dedicated, operator: Equal, value: training}"


def _queue(asked: Request) -> Iterator[Finding]:
    number = number_of_pods(asked)
    if asked.asked.queue and number is not None and number[0] < number[1]:
        path = ("kubernetes", "pods") if asked.asked.pods is not None else ("scaling", "num_workers")
        yield path, "Kueue admits all pods at once, not a number that changes (kubernetes.queue)", f"{number[1]}"

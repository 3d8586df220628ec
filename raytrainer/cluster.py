"""Connects to a Ray cluster or starts one here, and holds a request against what the cluster has."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import socket
import time
from typing import Any

import ray
from ray.train.v2.api.config import ScalingConfig

from raytrainer.address import chosen, host_and_port, not_of_it, problems
from raytrainer.autoscaler import HEAD, Autoscaler, Resources, autoscaler, listed, slots_of
from raytrainer.errors import Problem, ResourcesError
from raytrainer.loopback import is_loopback, keep_token_private, ray_on_loopback, ray_without_api_server

# A node that has just been started has its raylet a moment after the head knows of it.
_RAYLET_S = 10.0


def connect(cpus_needed: int, address: str | None = None) -> None:
    """Make sure that this program is connected to Ray.

    A program that called ``ray.init`` keeps what it has; else ``RAY_ADDRESS`` names the cluster; else Ray is started
    on this machine, with a slot for every worker even where there are fewer cores. Nobody else reaches that one: it
    listens on 127.0.0.1 alone, and asks for a token.

    Args:
        cpus_needed: CPU slots that the job asks for.
        address: of the cluster, in the place of ``RAY_ADDRESS``: HOST:PORT, ``auto`` for the one on this machine, or
            ``local`` for one of its own.

    Raises:
        ResourcesError: there is no cluster at the address, or none that this program can join.
    """
    if ray.is_initialized():
        if ray.util.client.ray.is_connected():
            raise ResourcesError(*problems("ray.init", "ray://"))
        return
    there = chosen(address)
    if there is None:
        keep_token_private()
        # "local": without an address Ray joins a cluster that somebody else left on this machine.
        with ray_on_loopback(), ray_without_api_server():
            ray.init(address="local", num_cpus=max(os.cpu_count() or 1, cpus_needed), include_dashboard=False)
        return
    if found := list(problems(*there)):
        raise ResourcesError(*found)
    _knock(*there)
    place = host_and_port(there[1])
    try:
        with ray_on_loopback() if place and is_loopback(place[0]) else contextlib.nullcontext():
            ray.init(address=there[1])
    except (ConnectionError, ValueError) as error:
        if "No node info found" in str(error.__cause__):
            raise ResourcesError(not_of_it(*there)) from error
        raise ResourcesError(Problem(*there, str(error).splitlines()[0], _NO_CLUSTER)) from error


_NO_CLUSTER = "the address that ray start printed, or none to start Ray on this machine"


def _knock(setting: str, address: str) -> None:
    """Find out in seconds that nobody is there, or no node is here, which takes Ray minutes.

    Raises:
        ResourcesError: with either.
    """
    if (place := host_and_port(address)) is None:
        return
    try:
        socket.create_connection(place, timeout=10).close()
    except OSError as error:
        reason = f"nobody answers there: {error}"
        raise ResourcesError(Problem(setting, address, reason, _NO_CLUSTER)) from error
    deadline = time.monotonic() + _RAYLET_S
    while not ray._private.services.find_node_ids():
        if time.monotonic() > deadline:
            raise ResourcesError(not_of_it(setting, address))
        time.sleep(0.5)


def default_scaling() -> ScalingConfig:
    """Return one worker a GPU of the cluster, or one CPU worker where it has no GPU."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    return ScalingConfig(num_workers=max(gpus, 1), use_gpu=gpus > 0)


def one_a_gpu(scaling: ScalingConfig) -> ScalingConfig:
    """Return a request with as many workers as the cluster has GPUs, or with one where it asks for none."""
    workers = default_scaling().max_workers if scaling.use_gpu else 1
    return dataclasses.replace(scaling, num_workers=workers)


def worker_resources(scaling: ScalingConfig) -> Resources:
    """Return what one worker asks for, by Ray's resource names, without zeros."""
    asked: dict[str, Any] = scaling._resources_per_worker_not_none
    return {name: float(amount) for name, amount in asked.items() if amount}


def cpus(scaling: ScalingConfig | None) -> int:
    """Return the CPU slots that all workers ask for."""
    if scaling is None:
        return 1
    return math.ceil(worker_resources(scaling).get("CPU", 0.0) * scaling.max_workers)


def check_supply(scaling: ScalingConfig, fewest: int) -> str | None:
    """Refuse at once a request that the cluster can never meet, where Ray would wait without end.

    Args:
        scaling: the request.
        fewest: the number of workers that it takes to begin.

    Returns:
        What a run waits for until the autoscaler has brought it; None where all is there.

    Raises:
        ResourcesError: with request and supply side by side.
    """
    asked = worker_resources(scaling)
    nodes = _nodes()
    slots: float = room(asked, nodes)
    if slots >= fewest:
        return None
    supply = {name: sum(node.get(name, 0.0) for node in nodes) for name in asked}
    there = f"the cluster has {listed(supply)} on {len(nodes)} node(s), room for {slots} worker(s)"
    brings = autoscaler()
    if brings is None:
        there += ", and no autoscaler that could bring more"
    else:
        slots = _room_in_the_end(asked, nodes, brings)
        if slots >= fewest:
            return f"waiting for {brings}: {fewest} worker(s) ask for {listed(asked)} each; {there}"
        there += f", and {brings}: with all of them room for {slots:g} worker(s)"
    if slots:
        fix = f"ScalingConfig(num_workers={slots:g}, ...) (raytrainer run: -n {slots:g}), or a cluster that is larger"
    else:
        fix = "workers that ask for less (use_gpu, resources_per_worker), or another cluster"
    reason = f"each worker asks for {listed(asked)}; {there}"
    raise ResourcesError(Problem("scaling_config.num_workers", scaling.num_workers, reason, fix))


def room_for(scaling: ScalingConfig) -> int | None:
    """Count the workers for which the cluster has room when nothing else runs, with all that an autoscaler brings.

    Returns:
        The number; None where nobody knows how much the autoscaler brings.
    """
    asked, nodes = worker_resources(scaling), _nodes()
    brings = autoscaler()
    slots = room(asked, nodes) if brings is None else _room_in_the_end(asked, nodes, brings)
    return None if math.isinf(slots) else int(slots)


def _nodes() -> list[Resources]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _room_in_the_end(asked: Resources, nodes: list[Resources], brings: Autoscaler) -> float:
    """Count the workers that have room when the autoscaler has brought everything; it has brought some already."""
    head = [node for node in nodes if HEAD in node]
    return max(room(asked, nodes), room(asked, head) + brings.room(asked))


def room(asked: Resources, nodes: list[Resources]) -> int:
    """Count the workers that fit on the nodes, each worker on one node.

    Args:
        asked: what one worker asks for, at least one resource.
        nodes: what each node has in all.

    Returns:
        The number of workers.
    """
    return sum(slots_of(node, asked) for node in nodes)

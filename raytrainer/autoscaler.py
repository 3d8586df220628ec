"""Whether the cluster has an autoscaler, and how much that could bring."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply  # type: ignore[attr-defined]  # made by protobuf

Resources = dict[str, float]

HEAD = "node:__internal_head__"
"""A resource that only the head has."""


@dataclass(frozen=True)
class NodeType:
    """A kind of node that an autoscaler starts.

    Args:
        name: in the autoscaler's configuration.
        resources: what a node of it has; empty where the configuration does not say.
        most: how many of them.
    """

    name: str
    resources: Resources
    most: float


@dataclass(frozen=True)
class Autoscaler:
    """What an autoscaler may start.

    Args:
        types: of nodes; None where its configuration is not on the head, as on Kubernetes.
        most: nodes of all types together.
    """

    types: tuple[NodeType, ...] | None = None
    most: float = math.inf

    @classmethod
    def of(cls, config: dict[str, Any]) -> Autoscaler:
        """Return what a configuration of Ray's cluster launcher says."""
        most = config.get("max_workers", math.inf)
        types = []
        for name, declared in config.get("available_node_types", {}).items():
            of_it = declared.get("max_workers", 0 if name == config.get("head_node_type") else most)
            if of_it:
                types.append(NodeType(name, declared.get("resources", {}), of_it))
        return cls(tuple(types), most)

    def room(self, asked: Resources) -> float:
        """Count the workers for which it could bring room; infinite where nobody knows.

        Args:
            asked: what one worker asks for, at least one resource.
        """
        if self.types is None or any(not kind.resources for kind in self.types):
            return math.inf
        slots, left = 0.0, self.most
        for kind in sorted(self.types, key=lambda kind: -slots_of(kind.resources, asked)):
            nodes = min(kind.most, left)
            slots += nodes * slots_of(kind.resources, asked) if nodes else 0
            left -= nodes
        return slots

    def __str__(self) -> str:
        if self.types is None:
            return "an autoscaler"
        kinds = ", ".join(f"{kind.most:g} of {kind.name} ({listed(kind.resources)})" for kind in self.types)
        return f"an autoscaler for at most {self.most:g} node(s), {kinds or 'of no type'}"


def listed(resources: Resources) -> str:
    """Return resources for people."""
    return ", ".join(f"{amount:g} {name}" for name, amount in resources.items()) or "nothing"


def slots_of(node: Resources, asked: Resources) -> int:
    """Count the workers that fit on a node."""
    return min(int(node.get(name, 0.0) / amount + 1e-9) for name, amount in asked.items())


def autoscaler() -> Autoscaler | None:
    """Return the cluster's autoscaler; None where nothing brings nodes.

    Ray has no call that says so. On the head a monitor always runs, and is given a configuration where it shall start
    nodes; where there is none on the head, another machine may have it, as KubeRay does, and it reports to the head.
    """
    return _at(str(ray.get_runtime_context().gcs_address))


# It is asked more than once, and the answer stays the same.
@lru_cache
def _at(address: str) -> Autoscaler | None:
    port = address[address.rindex(":") :]
    (head,) = [node["NodeID"] for node in ray.nodes() if node["Alive"] and HEAD in node["Resources"]]
    look = _looker()
    if head == ray.get_runtime_context().get_node_id():
        found = look(port)
    else:
        # By default what a trial of a sweep starts has to run in the trial's place, which is on another node.
        options: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": "DEFAULT"}
        there = ray.remote(**options, label_selector={"ray.io/node-id": head})(look)
        found = ray.get(there.remote(port))
    if found is None:
        return Autoscaler() if _reports(address) else None
    return Autoscaler.of(found) if found else None


def _looker() -> Callable[[str], dict[str, Any] | None]:
    """Return the function that looks on the head; it travels by value, so that raytrainer need not be there."""

    def look(port: str) -> dict[str, Any] | None:
        """Return the configuration that the monitor was given, empty for none; None where no monitor runs here."""
        import os

        import psutil
        import yaml

        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            options = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
            here = options.get("--gcs-address", "").endswith(port)
            if here and any(word.endswith("/monitor.py") for word in words):
                if "--autoscaling-config" not in options:
                    return {}
                with open(os.path.expanduser(options["--autoscaling-config"])) as file:
                    config: dict[str, Any] = yaml.safe_load(file)
                    return config
        return None

    return look


def _reports(address: str) -> bool:
    """Tell whether an autoscaler elsewhere writes to the head how it gets on, in the way of either of its versions."""
    client = GcsClient(address=address)
    status = client.internal_kv_get(DEBUG_AUTOSCALING_STATUS.encode(), None)
    if status is not None:
        return "autoscaler_report" in json.loads(status)
    reply = GetClusterStatusReply.FromString(client.get_cluster_status(timeout_s=10))
    return bool(reply.autoscaling_state.autoscaler_state_version)

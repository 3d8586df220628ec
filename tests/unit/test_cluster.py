"""A request held against what the nodes have."""

from __future__ import annotations

from typing import Any

import pytest
from ray.train import ScalingConfig

from raytrainer.cluster import cpus, room, worker_resources

NODE = {"CPU": 8.0, "GPU": 2.0, "memory": 1e9}


@pytest.mark.parametrize(
    ("scaling", "asked", "slots"),
    [
        ({"num_workers": 4}, {"CPU": 1.0}, 16),
        ({"num_workers": 4, "use_gpu": True}, {"GPU": 1.0}, 4),
        ({"num_workers": 1, "use_gpu": True, "resources_per_worker": {"GPU": 2, "CPU": 5}}, {"GPU": 2, "CPU": 5}, 2),
        ({"num_workers": 1, "use_gpu": True, "resources_per_worker": {"GPU": 0.5}}, {"GPU": 0.5}, 8),
        # Three GPUs are in the cluster, and on no one node.
        ({"num_workers": 1, "use_gpu": True, "resources_per_worker": {"GPU": 3}}, {"GPU": 3.0}, 0),
        ({"num_workers": 1, "resources_per_worker": {"CPU": 1, "accordion": 1}}, {"CPU": 1.0, "accordion": 1.0}, 0),
    ],
)
def test_room_is_counted_node_by_node(scaling: dict[str, Any], asked: dict[str, float], slots: int) -> None:
    config = ScalingConfig(**scaling)
    assert worker_resources(config) == asked
    assert room(worker_resources(config), [NODE, NODE]) == slots


def test_a_local_ray_gets_a_slot_for_every_worker() -> None:
    assert cpus(ScalingConfig(num_workers=3, resources_per_worker={"CPU": 1.5})) == 5
    assert cpus(None) == 1

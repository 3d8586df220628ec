"""What ``fast: true`` chooses, and that the user's own values win."""

from __future__ import annotations

from typing import Any

import pytest
from ray.train.v2.api.config import ScalingConfig

from raytrainer.launch.fast import choices, cores_of_each

GPU_NODE = {"CPU": 32.0, "GPU": 4.0}


def chosen(training: dict[str, Any], accelerated: bool, cores: float | None) -> dict[str, Any]:
    return {choice.name: choice.value for choice in choices(training, accelerated, cores)}


@pytest.mark.parametrize(
    ("accelerated", "cores", "loaders"),
    [(True, 8.0, 7), (True, 64.0, 8), (True, 2.0, 1), (True, 1.5, None), (True, None, None), (False, 8.0, None)],
)
def test_loaders_follow_from_the_cores(accelerated: bool, cores: float | None, loaders: int | None) -> None:
    found = chosen({}, accelerated, cores)
    assert found.get("dataloader_num_workers") == loaders
    assert ("dataloader_persistent_workers" in found) == (loaders is not None)


def test_the_users_own_values_win() -> None:
    assert chosen({"dataloader_num_workers": 0}, True, 8.0) == {}
    assert chosen({"dataloader_num_workers": 3}, True, 8.0) == {"dataloader_persistent_workers": True}
    assert chosen({"dataloader_persistent_workers": False}, True, 8.0) == {"dataloader_num_workers": 7}


@pytest.mark.parametrize(
    ("scaling", "nodes", "cores"),
    [
        (ScalingConfig(num_workers=4, use_gpu=True), [GPU_NODE], 8.0),
        (ScalingConfig(num_workers=2, use_gpu=True), [GPU_NODE], 16.0),
        (ScalingConfig(num_workers=8, use_gpu=True), [GPU_NODE, {"CPU": 8.0, "GPU": 4.0}, {"CPU": 2.0}], 2.0),
        (ScalingConfig(num_workers=1, use_gpu=True), [{"CPU": 2.0}], None),
    ],
)
def test_cores_are_those_of_the_node_with_least(scaling: Any, nodes: list[Any], cores: float | None) -> None:
    assert cores_of_each(scaling, nodes) == cores

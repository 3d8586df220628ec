"""A request held against a cluster that stays as it is."""

from __future__ import annotations

import pytest
from ray.train import ScalingConfig

from raytrainer.autoscaler import autoscaler
from raytrainer.cluster import check_supply, room_for
from raytrainer.errors import ResourcesError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_what_fits() -> None:
    assert autoscaler() is None
    scaling = ScalingConfig(num_workers=2, resources_per_worker={"CPU": 2})
    assert check_supply(scaling, 2) is None
    assert room_for(scaling) == 2


@pytest.mark.parametrize(
    ("scaling", "says", "fix"),
    [
        (
            ScalingConfig(num_workers=5),
            "asks for 1 CPU; the cluster has 4 CPU on 1 node(s), room for 4",
            "num_workers=4",
        ),
        (ScalingConfig(num_workers=5, use_gpu=True), "asks for 1 GPU; the cluster has 0 GPU", "ask for less (use_gpu"),
        (
            ScalingConfig(num_workers=5, resources_per_worker={"CPU": 1, "accordion": 1}),
            "asks for 1 CPU, 1 accordion; the cluster has 4 CPU, 0 accordion on 1 node(s), room for 0",
            "resources_per_worker",
        ),
    ],
)
def test_what_never_will(scaling: ScalingConfig, says: str, fix: str) -> None:
    with pytest.raises(ResourcesError) as caught:
        check_supply(scaling, 5)
    (problem,) = caught.value.problems
    assert says in problem.reason
    assert problem.reason.endswith("no autoscaler that could bring more")
    assert fix in problem.fix

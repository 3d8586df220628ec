"""warm_up where there is nothing to warm up."""

from __future__ import annotations

import pytest
import ray
from ray.train import ScalingConfig

from raytrainer import warm_up
from raytrainer.staying import arrived
from raytrainer.where import GROUP_VARIABLES


def test_under_torchrun_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in GROUP_VARIABLES:
        monkeypatch.setenv(name, "0")
    warm_up(ScalingConfig(num_workers=1))
    arrived()
    assert not ray.is_initialized()

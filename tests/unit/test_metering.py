"""What is told of a training's memory is that training's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from raytrainer.metering import Meter


def test_the_peak_of_a_gpu_is_that_of_this_training(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = [8]  # of what the process did before
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peaks[-1])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: peaks.append(2))
    trainer: Any = SimpleNamespace(args=SimpleNamespace(world_size=1), get_batch_samples=lambda: None)
    meter = Meter(trainer)
    meter.begin(0, batch_size=4)
    assert meter.read(1).memory_peak_bytes == 2

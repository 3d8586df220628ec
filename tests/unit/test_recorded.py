"""What a driver's trainer makes of what came home, on a machine that is not as the workers are."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import ParallelismConfig
from torch.optim.lr_scheduler import LambdaLR

from raytrainer import RayTrainer, RayTrainingArguments
from raytrainer.errors import ShippingError
from raytrainer.order import Schedule
from raytrainer.weights import Weights, _to_bytes
from tests.ray.recipes import tiny_bert


def trained(folder: Path, **arguments: Any) -> Any:
    """A trainer after a training whose learning rate was 0.25 in the end."""
    trainer: Any = RayTrainer(tiny_bert(), RayTrainingArguments(folder, report_to="none", **arguments))
    groups = torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)], lr=0.25)
    schedule = LambdaLR(groups, lambda step: 1.0).state_dict()
    trainer.state.max_steps = 8
    trainer._keep_schedule(Schedule([{"lr": 0.25}] * 2, schedule))
    return trainer


def weights(model: torch.nn.Module) -> Weights:
    return {name: _to_bytes(tensor) for name, tensor in model.state_dict().items()}


def test_weights_that_the_drivers_model_cannot_hold_are_told(tmp_path: Path) -> None:
    trainer = trained(tmp_path)
    trainer._keep_weights(weights(tiny_bert(labels=3)))
    for _ in range(2):
        with pytest.raises(ShippingError, match=r"classifier\.weight \(3, 16\) trained, \(2, 16\) here.*") as caught:
            trainer.save_model(tmp_path / "model")
    assert f"checkpoint of {tmp_path}" in caught.value.problems[0].fix
    assert not list((tmp_path / "model").glob("*"))


def test_a_trainer_that_is_built_does_not_keep_the_weights_of_before(tmp_path: Path) -> None:
    trainer = trained(tmp_path)
    assert trainer.label_names == ["labels"]  # builds it
    trainer._keep_weights(weights(tiny_bert(labels=3)))
    with pytest.raises(ShippingError):
        trainer.save_model(tmp_path / "model")


def test_the_optimizer_has_what_training_ended_with(tmp_path: Path) -> None:
    trainer = trained(tmp_path)
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.25, 0.25]
    assert trainer.lr_scheduler.optimizer is trainer.optimizer
    assert trainer.lr_scheduler.get_last_lr() == [0.25, 0.25]
    assert trainer._assigned == {}


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="it is here")
def test_an_optimizer_that_only_the_workers_have_keeps_nothing_from_being_saved(tmp_path: Path) -> None:
    trainer = trained(tmp_path, optim="adamw_bnb_8bit")
    trainer.save_model(tmp_path / "model")
    assert (tmp_path / "model/model.safetensors").exists()
    for _ in range(2):
        with pytest.raises(ImportError, match="bitsandbytes"):
            _ = trainer.optimizer


def test_a_model_split_over_workers_is_saved_by_one_process(tmp_path: Path) -> None:
    trainer = trained(tmp_path, parallelism_config=ParallelismConfig(tp_size=2))
    trainer.save_model(tmp_path / "model")
    assert (tmp_path / "model/model.safetensors").exists()

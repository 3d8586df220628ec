"""On several workers too, a run that adopts its arguments steps with them; unchanged, it is the donor going on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.train import ScalingConfig
from transformers import TrainerCallback

import raytrainer
from tests.ray.recipes import COMMON, classify_words

pytestmark = pytest.mark.ray

DONE, STEPS = 4, 10
DONOR = {**COMMON, "max_steps": STEPS, "save_strategy": "steps", "save_steps": DONE, "learning_rate": 5e-3}
FSDP = {"fsdp": True, "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": ["BertLayer"]}}


class NotesSteps(TrainerCallback):
    """Notes what the optimizer's groups have when it steps."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.best_at_start: Any = "none yet"

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.best_at_start == "none yet":
            self.best_at_start = state.best_metric

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append([(group["lr"], group["weight_decay"]) for group in kwargs["optimizer"].param_groups])


def train(folder: Path, donor: Path | None = None, **changes: Any) -> tuple[NotesSteps, dict[str, torch.Tensor]]:
    notes = NotesSteps()
    arguments = raytrainer.RayTrainingArguments(str(folder), **{**DONOR, **changes})
    scaling = ScalingConfig(num_workers=2)
    trainer: Any = raytrainer.RayTrainer(args=arguments, callbacks=[notes], scaling_config=scaling, **classify_words())
    if donor is not None:
        # A sweep's trial says so; a RayTrainer of the user's does not.
        recovery = trainer._recovery
        vars(trainer)["_recovery"] = lambda folder: dataclasses.replace(recovery(folder), adopt=True)
    trainer.train(resume_from_checkpoint=str(donor) if donor else None)
    noted = next(c for c in trainer.callback_handler.callbacks if isinstance(c, NotesSteps))
    return noted, trainer.model.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [{}, FSDP], ids=["ddp", "fsdp"])
def test_two_workers_step_with_the_clones_arguments(sharded: dict[str, Any], ray_cluster: None, tmp_path: Path) -> None:
    common = {**sharded, "metric_for_best_model": "loss"}
    donor, weights = train(tmp_path / "donor", **common)
    checkpoint = tmp_path / f"donor/checkpoint-{DONE}"
    changed = {**common, "learning_rate": 1e-3, "weight_decay": 0.3, "per_device_train_batch_size": 8}
    clone, _ = train(tmp_path / "clone", checkpoint, **changed)
    rates = [1e-3 * (STEPS - step) / STEPS for step in range(DONE, STEPS)]
    # What the callback noted before comes along, as to any run that goes on.
    assert clone.seen[:DONE] == donor.seen[:DONE]
    assert clone.seen[DONE:] == [[(pytest.approx(rate), 0.3), (pytest.approx(rate), 0.0)] for rate in rates]
    assert clone.best_at_start is None
    same, same_weights = train(tmp_path / "same", checkpoint, **common)
    assert same.seen == donor.seen
    assert all(torch.equal(weights[name], same_weights[name]) for name in weights)

"""A run that goes on from a checkpoint in its middle ends like one that was never interrupted, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.train import ScalingConfig
from transformers import EarlyStoppingCallback, TrainerCallback

import raytrainer
from tests.ray.recipes import (
    COMMON,
    PadBoth,
    classify_pictures,
    classify_words,
    reverse_words,
    tokenizer,
    vowels,
    without_times,
)

pytestmark = pytest.mark.ray


class HidesLetters:
    """A collator that draws: it hides letters at random, as those for masked language models do."""

    def __init__(self) -> None:
        self.pad = PadBoth(tokenizer())

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.pad([{**row, "labels": [row["label"]]} for row in rows])
        labels = batch.pop("labels").flatten()
        hidden = torch.rand(batch["input_ids"].shape) < 0.3
        return {**batch, "input_ids": batch["input_ids"].masked_fill(hidden, 0), "labels": labels}


@dataclass(frozen=True)
class Case:
    """A training and the step of the checkpoint to go on from; an epoch has 64 examples."""

    step: int
    arguments: dict[str, Any]
    build: Callable[[], dict[str, Any]] = classify_words
    seq2seq: bool = False
    workers: int = 2
    parts: Callable[[], dict[str, Any]] = field(default=dict)


class Counted(torch.utils.data.Dataset[dict[str, Any]]):
    """Counts in a file how many examples were asked of it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, Any]] = list(vowels(4096, 3))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with self.file.open("a") as file:
            file.write(".")
        return self.rows[index]


class NotesTheCount(TrainerCallback):
    """Writes down how many examples had been read when the first step began."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        noted = self.file.with_suffix(".first")
        if not noted.exists():
            noted.write_text(str(len(self.file.read_text())))


CASES = {
    # 4 steps an epoch: 6 is the middle of the second one, and no step that is logged.
    "accumulation": Case(6, {"gradient_accumulation_steps": 2, "logging_steps": 4, "save_steps": 3}),
    # 8 steps an epoch.
    "at the end of an epoch": Case(8, {"save_strategy": "epoch", "eval_strategy": "epoch", "max_steps": 20}),
    "saved at the last step of an epoch, evaluated after it": Case(8, {"save_steps": 8, "eval_strategy": "epoch"}),
    # No step is left, and one more would change the weights; what comes after the last step is.
    "after the last step": Case(12, {"save_steps": 6, "eval_strategy": "epoch", "lr_scheduler_type": "constant"}),
    "dataloader workers": Case(11, {"dataloader_num_workers": 2, "save_steps": 11, "max_steps": 14}),
    "grouped by length": Case(13, {"train_sampling_strategy": "group_by_length", "save_steps": 13, "max_steps": 20}),
    "a sampler with a generator of its own": Case(
        13, {"accelerator_config": {"use_seedable_sampler": False}, "save_steps": 13, "max_steps": 20}
    ),
    "seq2seq": Case(
        5, {"predict_with_generate": True, "generation_max_length": 12, "save_steps": 5}, reverse_words, seq2seq=True
    ),
    # 16 steps an epoch on one worker.
    "a collator that draws": Case(
        19, {"save_steps": 19, "max_steps": 24}, workers=1, parts=lambda: {"data_collator": HidesLetters()}
    ),
    "weights that have other names on the hub": Case(7, {"save_steps": 7}, classify_pictures),
    "best model, early stopping": Case(
        4,
        {
            "eval_steps": 2,
            "save_steps": 2,
            "load_best_model_at_end": True,
            "metric_for_best_model": "accuracy",
            "greater_is_better": True,
            "learning_rate": 0.5,
        },
        parts=lambda: {"callbacks": [EarlyStoppingCallback(3)]},
    ),
}


def train(case: Case, folder: Path, resume: str | None = None) -> Any:
    kind = "RaySeq2SeqTrain" if case.seq2seq else "RayTrain"
    arguments = {**COMMON, "save_strategy": "steps", "max_steps": 12, **case.arguments}
    trainer = getattr(raytrainer, f"{kind}er")(
        args=getattr(raytrainer, f"{kind}ingArguments")(folder / "out", **arguments),
        scaling_config=ScalingConfig(num_workers=case.workers),
        **{**case.build(), **case.parts()},
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize("name", CASES)
def test_the_end_is_the_same(name: str, tmp_path: Path, ray_cluster: None) -> None:
    case = CASES[name]
    whole = train(case, tmp_path / "whole")
    checkpoint = tmp_path / "whole" / "out" / f"checkpoint-{case.step}"
    assert whole.state.global_step >= case.step

    resumed = train(case, tmp_path / "resumed", str(checkpoint))

    assert [without_times(e) for e in resumed.state.log_history] == [without_times(e) for e in whole.state.log_history]
    weights = whole.model.state_dict()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in resumed.model.state_dict().items())
    assert resumed.state.best_global_step == whole.state.best_global_step


def test_what_was_done_already_is_not_read_again(tmp_path: Path, ray_cluster: None) -> None:
    """The examples read before the first step are those of two batches, however late in the epoch it comes."""
    steps = {"max_steps": 401, "save_steps": 200, "logging_steps": 500, "eval_strategy": "no"}
    read = []
    for name, step in (("whole", 0), ("early", 200), ("late", 400)):
        count = tmp_path / f"{name}.count"
        parts = {"train_dataset": Counted(count), "callbacks": [NotesTheCount(count)]}
        arguments = {**steps, "max_steps": step + 1} if step else steps
        case = Case(step, arguments, workers=1, parts=lambda parts=parts: parts)  # type: ignore[misc]  # mypy guesses no type of a default
        resume = str(tmp_path / "whole" / "out" / f"checkpoint-{step}") if step else None
        assert train(case, tmp_path / name, resume).state.global_step == arguments["max_steps"]
        read.append(int(count.with_suffix(".first").read_text()))
    assert read == [read[0]] * 3

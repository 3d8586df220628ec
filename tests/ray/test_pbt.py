"""Population based training really exploits: weights from the donor, and the mutated values in the optimizer."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import get_scheduler

from raytrainer.checkpoints import Store
from raytrainer.config.sweep import load_sweep
from raytrainer.launch.tune import tune
from raytrainer.sweep.record_files import read_sweep, read_trials
from raytrainer.sweep.records import Trial

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

STEPS = 24
WARMUP = 4


def sweep_of(folder: Path, name: str, schedule: str, scheduler: str) -> str:
    """Write a sweep of three trials, whose first learning rates are good, bad and worse."""
    rates = [1e-2, 1e-5, 1e-6]
    points = "\n".join(
        f"    - {{training.learning_rate: {rate}, training.weight_decay: {decay}}}"
        for rate, decay in zip(rates, [0.1, 0.2, 0.3], strict=True)
    )
    text = f"""
name: {name}
trainer: tests.ray.watched_module:build
data: {{notes: {folder / "notes"}}}
training:
  max_steps: {STEPS}
  per_device_train_batch_size: 8
  lr_scheduler_type: {schedule}
  warmup_steps: {WARMUP}
  eval_strategy: steps
  eval_steps: 4
  logging_steps: 4
run: {{storage_path: {folder / "runs"}}}
mlflow: null
search_space:
  training.learning_rate: {{loguniform: [1.0e-6, 1.0e-2]}}
  training.weight_decay: {{uniform: [0.0, 0.3]}}
tune:
  metric: eval_loss
  mode: min
  num_samples: 3
  points:
{points}
  scheduler: {scheduler}
"""
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return str(path)


def notes_of(folder: Path, number: int) -> list[list[dict[str, Any]]]:
    """Return what each of a trial's trainings noted, in the order of their steps."""
    files = folder.glob(f"notes/{number:05d}-*.jsonl")
    trainings = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
    return sorted(trainings, key=lambda notes: notes[0]["step"])


def rate_at(step: int, rate: float, schedule: str) -> float:
    """Return the learning rate that the optimizer of an undisturbed training has when it makes a step."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = get_scheduler(schedule, optimizer, num_warmup_steps=WARMUP, num_training_steps=STEPS)
    for _ in range(step - 1):
        optimizer.step()
        scheduler.step()
    return float(optimizer.param_groups[0]["lr"])


def run(folder: Path, name: str, schedule: str, scheduler: str) -> list[Trial]:
    tune(load_sweep(sweep_of(folder, name, schedule, scheduler)))
    store = Store(str(folder / "runs" / name))
    assert read_sweep(store).state == "finished"
    return read_trials(store)


def assert_exploited(folder: Path, trials: list[Trial], schedule: str) -> None:
    """Every change that a trial records happened: in its weights, and in what its optimizer did afterwards."""
    saved: dict[int, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for trial in trials:
        for training in notes_of(folder, trial.record.number):
            for note in training:
                if note["what"] == "save":
                    saved[trial.record.number][note["step"]].add(note["weights"])
    clones = 0
    for trial in trials:
        begun = {training[0]["step"]: training for training in notes_of(folder, trial.record.number)}
        for change in trial.record.changes:
            if change.step >= STEPS:
                continue
            clones += 1
            training = begun[change.step]
            assert change.donor_number is not None
            assert training[0]["weights"] in saved[change.donor_number][change.step]
            rate, decay = (change.values[f"training.{name}"] for name in ("learning_rate", "weight_decay"))
            assert 1e-6 <= rate <= 1e-2
            assert 0.0 <= decay <= 0.3
            steps = [note for note in training if note["what"] == "step"]
            assert steps
            assert [note["step"] for note in steps] == list(range(change.step + 1, steps[-1]["step"] + 1))
            assert [note["rate"] for note in steps] == pytest.approx(
                [rate_at(note["step"], rate, schedule) for note in steps], rel=1e-12
            )
            assert {note["decay"] for note in steps} == {decay}
    assert clones > 0


SLOW = [pytest.param(schedule, marks=pytest.mark.slow) for schedule in ("linear", "constant")]


@pytest.mark.parametrize("schedule", ["cosine", *SLOW])
def test_pbt_exploits(tmp_path: Path, schedule: str) -> None:
    options = "{pbt: {perturbation_interval: 8, quantile_fraction: 0.34, synch: true}}"
    trials = run(tmp_path, f"pbt-{schedule}", schedule, options)
    assert [trial.state for trial in trials] == ["finished"] * 3
    assert_exploited(tmp_path, trials, schedule)


@pytest.mark.slow
def test_pb2_exploits(tmp_path: Path) -> None:
    trials = run(tmp_path, "pb2", "linear", "{pb2: {perturbation_interval: 8, quantile_fraction: 0.34, synch: true}}")
    assert [trial.state for trial in trials] == ["finished"] * 3
    assert_exploited(tmp_path, trials, "linear")

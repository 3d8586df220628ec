"""The global batch stays what it is, whatever the number of workers: same examples in each step, same losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from ray.train import ScalingConfig
from transformers import Trainer

from raytrainer import RayTrainingArguments, distribute
from tests.ray.recipes import tiny_bert

pytestmark = pytest.mark.ray

EXAMPLES, STEPS = 64, 12
ARGUMENTS: dict[str, Any] = {
    "per_device_train_batch_size": 2,
    "num_train_epochs": 3,
    "logging_steps": 1,
    "save_steps": 6,
    "learning_rate": 1e-2,
    "seed": 7,
    "report_to": "none",
}


class Notes(Trainer):
    """Writes down which examples each rank trains on in which step; the first token of an example is its number."""

    def __init__(self, *args: Any, notes: Path, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.notes = notes

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        with (self.notes / f"{self.args.process_index}.jsonl").open("a") as file:
            # The group's port tells it from the groups before and after it.
            group, examples = os.environ["MASTER_PORT"], inputs["input_ids"][:, 0].tolist()
            print(json.dumps([time.time(), group, self.state.global_step, examples]), file=file)
        return super().training_step(model, inputs, num_items_in_batch)


def train(folder: Path, workers: int, **changes: Any) -> tuple[dict[int, list[int]], list[float]]:
    """Train on 64 examples, 16 a step, and return the examples of each step and the losses."""
    notes = folder / f"notes-{workers}"
    notes.mkdir(parents=True)
    resume = changes.pop("resume", None)
    trainer = distribute(Notes)(
        tiny_bert(vocabulary=EXAMPLES, dropout=0.0),
        RayTrainingArguments(folder / str(workers), **{**ARGUMENTS, **changes}),
        train_dataset=numbered(EXAMPLES),
        notes=notes,
        scaling_config=ScalingConfig(num_workers=workers),
        global_train_batch_size=16,
    )
    trainer.train(resume_from_checkpoint=resume)
    assert trainer.state.global_step == STEPS
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return examples_of_each_step(notes), losses


def examples_of_each_step(notes: Path) -> dict[int, list[int]]:
    """Return what each step trained on over all ranks; of a step that several groups made, what the last one did."""
    lines = [json.loads(line) for path in notes.iterdir() for line in path.read_text().splitlines()]
    last = {step: group for _, group, step, _ in sorted(lines)}
    steps: dict[int, list[int]] = defaultdict(list)
    for _, group, step, examples in lines:
        if group == last[step]:
            steps[step] += examples
    return {step: sorted(examples) for step, examples in sorted(steps.items())}


def numbered(count: int) -> Dataset:
    rows = [[number, (number * 7) % count, (number * 3) % count] for number in range(count)]
    return Dataset.from_dict({"input_ids": rows, "label": [number % 2 for number in range(count)]})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> tuple[Path, Any, Any]:
    folder = tmp_path_factory.mktemp("alone")
    return folder, *train(folder, 1)


def test_one_worker_takes_each_example_once_an_epoch(alone: tuple[Path, Any, Any]) -> None:
    _, steps, losses = alone
    assert_each_example_once_an_epoch(steps)
    assert len(losses) == STEPS


def assert_each_example_once_an_epoch(steps: dict[int, list[int]]) -> None:
    assert [len(examples) for examples in steps.values()] == [16] * STEPS
    for epoch in range(3):
        taken = [steps[step] for step in range(4 * epoch, 4 * epoch + 4)]
        assert sorted(chain(*taken)) == list(range(EXAMPLES))


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_more_workers_take_the_same_examples_in_each_step(
    workers: int, alone: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    _, steps, losses = alone
    with_more, losses_of_more = train(tmp_path, workers)
    assert with_more == steps
    assert losses_of_more == pytest.approx(losses, rel=1e-5)


def test_more_workers_go_on_where_one_stopped_in_the_middle_of_an_epoch(
    alone: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    folder, steps, losses = alone
    rest, losses_of_all = train(tmp_path, 2, resume=str(folder / "1" / "checkpoint-6"))
    assert rest == {step: steps[step] for step in range(6, STEPS)}
    assert losses_of_all == pytest.approx(losses, rel=1e-5)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training during which a node came and was killed; in a program of its own, with a cluster of its own."""
    folder = tmp_path_factory.mktemp("grown")
    command = [sys.executable, "-m", "tests.ray.growing_cluster", str(folder), "1", "kill"]
    root = str(Path(__file__).parents[2])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        command, cwd=root, env={**environment, "PYTHONPATH": root}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_group_follows_the_cluster_and_the_global_batch_stays(grown: Path) -> None:
    groups = [event for event in events(grown) if "workers" in event]
    assert [(group["workers"], group["accumulation"], group["batch"]) for group in groups] == [
        (1, 8, 16),
        (2, 4, 16),
        (1, 8, 16),
    ]
    assert events(grown)[-1]["steps"] == STEPS


@pytest.mark.slow
def test_each_example_is_trained_on_once_an_epoch_whatever_came_and_went(
    grown: Path, alone: tuple[Path, Any, Any]
) -> None:
    first, second, third = (event["step"] for event in events(grown) if "workers" in event)
    # The first group left of itself after step 5, the second was killed in step 9, with checkpoints at every second.
    assert (first, third) == (0, 8)
    assert second > 5
    lines = [json.loads(line) for path in (grown / "notes").iterdir() for line in path.read_text().splitlines()]
    group_of_one = min(lines)[1]
    assert max(step for _, group, step, _ in lines if group == group_of_one) == second - 1, "steps were lost"
    steps = examples_of_each_step(grown / "notes")
    assert_each_example_once_an_epoch(steps)
    _, steps_of_one, losses = alone
    assert steps == steps_of_one
    assert events(grown)[-1]["losses"] == pytest.approx(losses, rel=1e-5)

"""What raytrainer check finds out: memory, how often things happen, how it is shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from rich.console import Console
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from raytrainer.errors import Problem, UserError
from raytrainer.launch.cadence import cadence_rows, times
from raytrainer.launch.rows import Row, failed, print_rows
from raytrainer.tasks.inspection import Inspection, Inspector
from raytrainer.tracking import check_store
from raytrainer.tracking_target import Target


class Linear(nn.Module):
    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 32, bias=False), nn.Linear(32, 16, bias=False)
        self.first.requires_grad_(not frozen)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.second(self.first(x))
        return y.sum() + 0 * labels.sum(), y


def trainer(folder: Path, model: nn.Module | None = None, rows: int = 80, **arguments: Any) -> Trainer:
    data = Dataset.from_dict({"x": [[float(i)] * 64 for i in range(rows)], "labels": [0.0] * rows})
    given: dict[str, Any] = {"per_device_train_batch_size": 8, "report_to": "none", "use_cpu": True, **arguments}
    args = TrainingArguments(output_dir=str(folder), disable_tqdm=True, **given)
    return Trainer(model or Linear(), args, train_dataset=data, eval_dataset=data)


def test_memory_is_counted(tmp_path: Path) -> None:
    memory = Inspector(timed=False)(trainer(tmp_path)).memory
    weights = (64 * 32 + 32 * 16) * 4
    assert (memory.parameters, memory.gradients, memory.optimizer) == (weights, weights, 2 * weights)
    # The backward pass needs the input of each layer, 8 examples of 64 and of 32 numbers; not the weights once more.
    assert memory.activations == 8 * (64 + 32) * 4
    assert memory.needed == 4 * weights + memory.activations
    assert memory.device > 2**30


@pytest.mark.parametrize(("optim", "each"), [("sgd", 0), ("adamw_torch", 8), ("adafactor", 0.1), ("rmsprop", 4)])
def test_the_optimizer_counts_for_what_is_trained(optim: str, each: float, tmp_path: Path) -> None:
    found = Inspector(timed=False)(trainer(tmp_path, Linear(frozen=True), optim=optim))
    assert (found.parameters, found.trained) == (64 * 32 + 32 * 16, 32 * 16)
    assert found.memory.optimizer == int(each * 32 * 16)
    assert found.memory.gradients == 32 * 16 * 4
    # What no gradient goes through keeps nothing.
    assert found.memory.activations == 8 * 32 * 4


def test_a_larger_batch_keeps_more(tmp_path: Path) -> None:
    small, large = (
        Inspector(timed=False)(trainer(tmp_path, per_device_train_batch_size=size)).memory.activations
        for size in (4, 16)
    )
    assert small is not None and large == 4 * small


def test_inspecting_leaves_the_weights(tmp_path: Path) -> None:
    built = trainer(tmp_path)
    assert built.model is not None
    before = {name: tensor.clone() for name, tensor in built.model.state_dict().items()}
    Inspector(timed=False)(built)
    assert all(torch.equal(tensor, before[name]) for name, tensor in built.model.state_dict().items())


def test_a_few_steps_are_timed(tmp_path: Path) -> None:
    slow = trainer(tmp_path, max_steps=1000, eval_strategy="steps", eval_steps=5)
    found = Inspector(timed=True)(slow)
    assert found.max_steps == 1000  # what the run would do
    assert slow.state.global_step == 8  # what was done
    assert found.timing is not None and 0 < found.timing.step < 10
    assert found.timing.evaluation is not None and found.timing.evaluation > 0
    assert not list(tmp_path.glob("checkpoint-*"))


class Counting(TrainerCallback):
    def __init__(self) -> None:
        self.evaluations = self.saves = 0

    def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self.evaluations += 1

    def on_save(self, *args: Any, **kwargs: Any) -> None:
        self.saves += 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_steps": 10, "eval_strategy": "steps", "eval_steps": 4},
        {"max_steps": 10, "eval_strategy": "steps", "eval_steps": 0.25},
        {"max_steps": 10, "eval_strategy": "steps", "eval_steps": 11},
        {"max_steps": 7, "eval_strategy": "steps", "eval_steps": 0.1},
        {"num_train_epochs": 3, "eval_strategy": "epoch"},
        {"max_steps": 25, "eval_strategy": "epoch"},
        {"max_steps": 10, "eval_strategy": "no", "save_strategy": "steps", "save_steps": 3},
        {"max_steps": 12, "save_strategy": "steps", "save_steps": 0.25},
        {"num_train_epochs": 2, "eval_strategy": "steps", "eval_steps": 5, "gradient_accumulation_steps": 2},
    ],
)
def test_evaluations_are_counted_as_transformers_makes_them(arguments: dict[str, Any], tmp_path: Path) -> None:
    found = Inspector(timed=False)(trainer(tmp_path, **arguments))
    counting = Counting()
    real = trainer(tmp_path, **{"save_strategy": "no", **arguments})
    real.add_callback(counting)
    real.train()
    assert found.max_steps == real.state.global_step
    strategies: list[Any] = [real.args.eval_strategy, real.args.save_strategy]
    assert times(strategies[0].value, real.args.eval_steps, found) == counting.evaluations
    assert times(strategies[1].value, real.args.save_steps, found) == counting.saves


def inspection(tmp_path: Path, **arguments: Any) -> tuple[Any, Inspection]:
    built = trainer(tmp_path, **arguments)
    return built.args, Inspector(timed=False)(built)


def test_what_never_happens_is_a_warning(tmp_path: Path) -> None:
    rows = cadence_rows(*inspection(tmp_path, max_steps=10, eval_strategy="steps", eval_steps=20, save_steps=500))
    seen = {row.what: row for row in rows}
    assert seen["steps"].found == "10 optimizer steps, 1 epochs"
    assert seen["evaluation"].verdict == seen["checkpoints"].verdict == seen["logs"].verdict == "warning"
    assert "one, after the last step\n  Instead: training.eval_steps: 2" in seen["evaluation"].found
    assert seen["time"].verdict == "not seen"


def test_the_table() -> None:
    text = io.StringIO()
    rows = [Row("config", "ok", "[brackets]"), failed("data", Problem("data.train", "x", "there is none", "y"))]
    print_rows([*rows, Row("model", "not seen", "later")], Console(file=text, width=100))
    printed = text.getvalue()
    assert "[brackets]" in printed and "data.train = 'x': there is none" in printed
    assert printed.splitlines()[-1] == "1 ok, 1 failed, 1 not seen"


def test_mlflow_is_reached_and_nothing_made(tmp_path: Path) -> None:
    check_store(Target(f"sqlite:///{tmp_path / 'mlflow.db'}"))
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="there is no folder"):
        check_store(Target(f"sqlite:///{tmp_path / 'none' / 'mlflow.db'}"))
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        check_store(Target("http://127.0.0.1:9"))

"""The model contract: what keeps it, what breaks each rule, and that looking leaves no trace."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from torch import nn
from transformers import DataCollatorForLanguageModeling, PreTrainedConfig, Trainer, TrainingArguments
from transformers.utils.generic import ModelOutput

from raytrainer.contract import (
    Verdict,
    check_evaluation,
    check_model,
    inspect_model,
    rehearse,
    sample_batch,
)
from raytrainer.errors import Problem

Tensor = torch.Tensor
EXAMPLES = [{"x": [float(i), 1.0, 2.0], "label": i % 2} for i in range(8)]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Trainer]:
    """Build a trainer; what is not an argument of Trainer goes to the training arguments."""

    def build(model: nn.Module, *, kind: type[Trainer] = Trainer, data: Any = EXAMPLES, **options: Any) -> Trainer:
        given: dict[str, Any] = {
            name: options.pop(name) for name in ("data_collator", "compute_loss_func") if name in options
        }
        given["eval_dataset"] = options.pop("eval_dataset", data)
        options = {"report_to": [], "disable_tqdm": True, "save_strategy": "no", "use_cpu": True, **options}
        return kind(model, TrainingArguments(str(tmp_path), **options), train_dataset=data, **given)

    return build


Build = Callable[..., Trainer]


@dataclass
class Output(ModelOutput):
    loss: Tensor | None = None
    logits: Tensor | None = None


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels)


class TupleModel(Base):
    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.head(x)
        return (logits,) if labels is None else (self.loss(logits, labels), logits)


class OutputModel(Base):
    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.head(x)
        return Output(loss=None if labels is None else self.loss(logits, labels), logits=logits)


class DictModel(Base):
    def forward(self, x: Tensor, labels: Tensor) -> Any:
        return {"loss": self.loss(self.head(x), labels)}


class TwoLabels(Base):
    def forward(self, x: Tensor, first: Tensor | None = None, second: Tensor | None = None) -> Any:
        logits = self.head(x)
        if first is None or second is None:
            return (logits,)
        return self.loss(logits, first) + self.loss(logits, second), logits


class Momentum(Base):
    """Moves a buffer, a parameter, an attribute and the random state in forward, and its loss needs training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.calls = 0

    def forward(self, x: Tensor, labels: Tensor) -> Any:
        self.calls += 1
        logits = self.head(nn.functional.dropout(self.norm(x), training=self.training))
        if not self.training:
            return (logits,)
        with torch.no_grad():
            self.head.bias.add_(torch.randn(2))
        return self.loss(logits, labels), logits


TWO = [{"x": [1.0, 2.0, float(i)], "first": i % 2, "second": 1} for i in range(4)]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (TupleModel(), {}),
        (OutputModel(), {}),
        (DictModel(), {}),
        (TwoLabels(), {"data": TWO, "label_names": ["first", "second"]}),
        (Momentum(), {"eval_dataset": None}),
        (TupleModel(), {"bf16": True}),
    ],
)
def test_models_that_keep_the_contract(build: Build, model: nn.Module, options: dict[str, Any]) -> None:
    assert inspect_model(build(model, **options), probe_loss_scale=True) == Verdict()


def breaking(forward: Callable[..., Any]) -> nn.Module:
    model: nn.Module = type("Broken", (Base,), {"forward": forward})()
    return model


@pytest.mark.parametrize(
    ("forward", "value", "reason", "fix"),
    [
        (lambda s, x, labels: s.loss(s.head(x), labels), "Tensor", "take the first row of a tensor", "return a tuple"),
        (lambda s, x, labels: Base(), "Base", "from a tuple or a transformers.utils.ModelOutput", "(loss, logits)"),
        (lambda s, x, labels: (), [], "no loss, though labels were given", "first in a tuple"),
        (lambda s, x, labels: Output(logits=s.head(x)), ["logits"], "no loss, though labels", "loss of a ModelOutput"),
        (lambda s, x, labels: {"loss": None, "y": s.head(x)}, ["loss", "y"], "no loss, though labels", "compute"),
        (
            lambda s, x, labels: (s.head(x), s.loss(s.head(x), labels)),
            "shape (2, 2)",
            "scalar",
            "put what is at 1 there",
        ),
        (lambda s, x, labels: (s.head(x).sum(1),), "shape (2,)", "the loss, at 0, has to be a scalar", "loss.mean()"),
        (lambda s, x, labels: {"loss": s.head(x)}, "shape (2, 2)", "the loss, at 'loss', has to be", "loss.mean()"),
        (lambda s, x, labels: (s.loss(s.head(x), labels).item(),), "float", "has to be a tensor", "without .item()"),
        (lambda s, x, labels: (s.head(x).argmax(),), "torch.int64", "floating point", "return the loss there"),
        (
            lambda s, x, labels: (s.loss(s.head(x).detach(), labels),),
            "no gradient",
            "any parameter",
            "without detach()",
        ),
    ],
)
def test_what_forward_returns(build: Build, forward: Any, value: object, reason: str, fix: str) -> None:
    (problem,) = inspect_model(build(breaking(forward)), probe_loss_scale=True).problems
    assert (problem.setting, problem.value) == ("what Broken.forward returns", value)
    assert reason in problem.reason
    assert fix in problem.fix


@pytest.mark.parametrize(
    ("forward", "reason", "fix"),
    [
        (
            lambda s, x, target, labels=None: (),
            "argument: 'target'. The batch has labels [2], x [2, 3]; forward takes x, target, labels=None",
            "name the columns of the dataset",
        ),
        (lambda s, x: (), "unexpected keyword argument 'labels'", "name the columns of the dataset"),
        (lambda s, x, labels, **kw: s.head(x, **kw), "'num_items_in_batch'", "accepts_loss_kwargs = False"),
    ],
)
def test_what_forward_takes(build: Build, forward: Any, reason: str, fix: str) -> None:
    (problem,) = inspect_model(build(breaking(forward)), probe_loss_scale=True).problems
    assert (problem.setting, problem.value) == ("Broken.forward", "raised TypeError")
    assert reason in problem.reason
    assert fix in problem.fix


@pytest.mark.parametrize(
    ("forward", "options", "setting", "value", "fix"),
    [
        (
            lambda s, x, label: (s.loss(s.head(x), label),),
            {},
            "argument of Broken.forward",
            "label",
            "call the argument labels",
        ),
        (
            lambda s, x, labels: (s.loss(s.head(x), labels),),
            {"label_names": ["label", "labels"]},
            "label_names",
            "label",
            "labels",
        ),
        (
            lambda s, x, labels: (s.loss(s.head(x), labels),),
            {"label_names": ["lables"]},
            "label_names",
            "lables",
            "write 'labels'",
        ),
    ],
)
def test_label_names(
    build: Build, forward: Any, options: dict[str, Any], setting: str, value: object, fix: str
) -> None:
    (problem,) = inspect_model(build(breaking(forward), **options), probe_loss_scale=True).problems
    assert (problem.setting, problem.value) == (setting, value)
    assert fix in problem.fix


def test_all_findings_come_together(build: Build) -> None:
    trainer = build(breaking(lambda s, x, label: s.head(x)), label_names=["gold"])
    verdict = inspect_model(trainer, probe_loss_scale=True)
    assert [problem.value for problem in verdict.problems] == ["label", "gold", "Tensor"]


def test_no_labels_in_the_batch(build: Build) -> None:
    data = [{"x": [1.0, 2.0, 3.0]}] * 4
    verdict = inspect_model(build(OutputModel(), data=data), probe_loss_scale=True)
    (problem,) = verdict.problems
    assert "no labels in the batch, which has x" in problem.reason
    assert "give labels" in problem.fix


def test_a_loss_that_needs_training_mode_is_missing_from_an_evaluation(build: Build) -> None:
    (problem,) = inspect_model(build(Momentum()), probe_loss_scale=False).problems
    assert "has to be a scalar" in problem.reason


def test_a_gradient_may_be_recorded_in_training_mode_alone(build: Build) -> None:
    def forward(self: Any, x: Tensor, labels: Tensor) -> tuple[Tensor]:
        with torch.set_grad_enabled(self.training):
            return (self.loss(self.head(x), labels),)

    assert inspect_model(build(breaking(forward)), probe_loss_scale=False) == Verdict()


@pytest.mark.parametrize(
    ("model", "options", "reason", "fix"),
    [
        (TwoLabels(), {"data": TWO}, "names no argument *label*", "those of x, first, second that are labels"),
        (
            breaking(lambda s, x, labels, label_weights=None: (s.loss(s.head(x), labels),)),
            {},
            "the batch has no label_weights, so evaluation gives no eval_loss",
            "set label_names to labels",
        ),
    ],
)
def test_an_evaluation_without_loss_is_warned_of(
    build: Build, model: nn.Module, options: dict[str, Any], reason: str, fix: str
) -> None:
    trainer = build(model, **options)
    verdict = inspect_model(trainer, probe_loss_scale=False)
    assert verdict.problems == ()
    (warning,) = verdict.warnings
    assert reason in warning.reason
    assert fix in warning.fix
    trainer.eval_dataset = None
    batch = sample_batch(trainer)
    assert batch is not None
    assert check_evaluation(trainer, batch) == []


@pytest.mark.parametrize("method", ["compute_loss", "training_step"])
def test_a_loss_of_the_trainers_own_is_its_own_business(build: Build, method: str) -> None:
    kind = type("Own", (Trainer,), {method: lambda self, *args, **kwargs: None})
    trainer = build(breaking(lambda s, x: s.head(x)), kind=kind)
    assert check_model(trainer, {"x": torch.ones(2, 3), "labels": torch.ones(2)}) == []
    assert inspect_model(trainer, probe_loss_scale=True).problems == ()


def test_a_loss_function_gets_labels_that_forward_does_not(build: Build) -> None:
    def compute_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        return nn.functional.cross_entropy(outputs["logits"], labels)

    good = breaking(lambda s, x: {"logits": s.head(x)})
    assert inspect_model(build(good, compute_loss_func=compute_loss), probe_loss_scale=True).problems == ()
    bare = breaking(lambda s, x: s.head(x))
    (problem,) = inspect_model(build(bare, compute_loss_func=compute_loss), probe_loss_scale=True).problems
    assert problem.value == "Tensor"


@pytest.mark.parametrize(
    "loss",
    [
        {"compute_loss_func": lambda outputs, labels, num_items_in_batch=None: outputs["logits"].mean()},
        {"label_smoothing_factor": 0.1},
    ],
    ids=lambda loss: str(*loss),
)
def test_labels_may_be_named_where_the_trainer_keeps_them(build: Build, loss: dict[str, Any]) -> None:
    model: Any = breaking(lambda s, x: {"logits": s.head(x)})
    model.config = PreTrainedConfig()
    trainer = build(model, label_names=["labels"], **loss)
    assert inspect_model(trainer, probe_loss_scale=True) == Verdict()
    assert trainer.evaluate()["eval_loss"]
    (problem,) = inspect_model(build(model, label_names=["labels"]), probe_loss_scale=True).problems[:1]
    assert "has no argument of this name" in problem.reason


def test_an_exception_of_the_models_own_is_left_to_training(build: Build) -> None:
    def forward(self: Any, x: Tensor, labels: Tensor) -> None:
        raise ValueError("my own")

    trainer = build(breaking(forward))
    assert inspect_model(trainer, probe_loss_scale=True).skipped == "ValueError: my own"
    with pytest.raises(ValueError, match="my own"):
        trainer.train()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_running_out_of_memory_is_not_a_finding(build: Build, error: type[Exception]) -> None:
    def forward(self: Any, x: Tensor, labels: Tensor) -> None:
        raise error("out of memory")

    with pytest.raises(error):
        inspect_model(build(breaking(forward)), probe_loss_scale=True)


def test_a_model_that_is_not_here_is_not_run(build: Build) -> None:
    trainer = build(TupleModel(), label_names=["gold"])
    trainer.model = TupleModel().to("meta")
    verdict = inspect_model(trainer, probe_loss_scale=True)
    assert verdict.skipped == "the model is on the device 'meta'"
    assert [problem.value for problem in verdict.problems] == ["gold"]


def test_a_verdict_travels() -> None:
    verdict = Verdict((Problem("setting", "value", "reason", "fix"),), True, "skipped", ())
    assert pickle.loads(pickle.dumps(verdict)) == verdict


# --- the sample batch ---


class Stream(torch.utils.data.IterableDataset[dict[str, Any]]):
    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from EXAMPLES


class Loader(Trainer):
    def get_train_dataloader(self) -> Any:
        raise AssertionError("a loader of the user's own is not touched")


COLUMNS = {"x": [example["x"] for example in EXAMPLES], "label": [0, 1] * 4, "note": [1] * 8}


@pytest.mark.parametrize(
    "data",
    [
        [{**example, "note": 1} for example in EXAMPLES],
        datasets.Dataset.from_dict(COLUMNS),
        datasets.Dataset.from_dict(COLUMNS).to_iterable_dataset(),
        torch.utils.data.Subset(EXAMPLES, range(8)),
    ],
    ids=["list", "datasets", "stream of datasets", "torch"],
)
def test_a_sample_is_what_the_loader_gives(build: Build, data: Any) -> None:
    options = {"train_sampling_strategy": "sequential", "per_device_train_batch_size": 2, "max_steps": 1}
    trainer = build(TupleModel(), data=data, **options)
    before = trainer._signature_columns
    batch = sample_batch(trainer)
    assert trainer._signature_columns is before
    assert batch is not None
    expected = next(iter(trainer.get_train_dataloader()))
    assert batch.keys() == expected.keys() == {"x", "labels"}
    assert all(torch.equal(batch[key], expected[key]) for key in batch)


@pytest.mark.parametrize(("size", "length", "given"), [(2, 8, 2), (3, 8, 3), (2, 1, 1)])
def test_size_of_a_sample(build: Build, size: int, length: int, given: int) -> None:
    batch = sample_batch(build(TupleModel(), data=EXAMPLES[:length]), size)
    assert batch is not None
    assert batch["x"].shape == (given, 3)


def test_a_sample_of_the_evaluation_data(build: Build) -> None:
    trainer = build(TupleModel(), data=None, eval_dataset={"one": EXAMPLES, "two": EXAMPLES})
    batch = sample_batch(trainer)
    assert batch is not None
    assert batch["x"].shape == (2, 3)


@pytest.mark.parametrize(
    ("data", "kind"),
    [([], Trainer), (None, Trainer), (Stream(), Trainer), (EXAMPLES, Loader)],
    ids=["empty", "none", "stream", "own loader"],
)
def test_where_no_sample_is_made(build: Build, data: Any, kind: type[Trainer]) -> None:
    trainer = build(breaking(lambda s, x: None), data=data, kind=kind, max_steps=1)
    assert sample_batch(trainer) is None
    verdict = inspect_model(trainer, probe_loss_scale=True)
    assert verdict.skipped == "no batch could be made without touching the data loader"


class Drawing:
    """A dataset that draws from every generator there is, counts, and whose collator empties its examples."""

    def __init__(self) -> None:
        self.generators = [np.random.default_rng(1)]
        self.legacy, self.python, self.torch = np.random.RandomState(1), random.Random(1), torch.Generator()
        self.lazy: Any = None
        self.reads = 0
        self.rows = [dict(example) for example in EXAMPLES]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.reads += 1
        self.lazy = self.lazy or np.random.default_rng(2)
        self.draw()
        return self.rows[index]

    def draw(self) -> list[float]:
        lazy = [] if self.lazy is None else [self.lazy.random()]
        held = [self.generators[0].random(), self.legacy.rand(), self.python.random()]
        drawn = [torch.rand(1, generator=self.torch).item(), torch.rand(1).item(), random.random(), np.random.rand()]
        return [*lazy, *held, *drawn]


def test_a_sample_leaves_data_and_random_state_as_they_were(build: Build) -> None:
    def collate(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {name: torch.tensor([example.pop(name) for example in examples]) for name in ("x", "label")}

    # The probe reads draws of a twin, whose generators are at the same place.
    data, twin = Drawing(), Drawing()
    trainer = build(TupleModel(), data=data, data_collator=collate, remove_unused_columns=False)
    torch.manual_seed(3)
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = twin.draw()
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])

    assert sample_batch(trainer) is not None

    assert (data.reads, data.lazy, data.rows) == (0, None, EXAMPLES)
    assert data.draw() == expected


def test_a_sample_leaves_a_seeded_collator_as_it_was(build: Build) -> None:
    class Tokens(DataCollatorForLanguageModeling):
        def __init__(self) -> None:
            self.seed, self.generator = 5, None

        def __call__(self, features: Any, return_tensors: Any = None) -> dict[str, Tensor]:
            if self.generator is None:
                self.create_rng_here()
            return {"x": torch.rand(len(features), 3, generator=self.generator), "labels": torch.tensor([0, 1])}

        def create_rng_here(self) -> None:
            self.generator = torch.Generator().manual_seed(self.seed)

    trainer = build(TupleModel(), data_collator=Tokens())
    first, second = sample_batch(trainer), sample_batch(trainer)
    assert first is not None
    assert second is not None
    assert torch.equal(first["x"], second["x"])


# --- no trace ---


class Stateful(Base):
    """Dropout, running statistics, a counter, a rebound buffer and a mixture of training flags."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("seen", torch.zeros(1))
        self.calls = 0

    def forward(self, x: Tensor, labels: Tensor, **kwargs: Any) -> Any:
        self.seen = self.seen + 1
        self.calls += 1
        self.last = x
        noise = torch.rand(1).item() + random.random() + np.random.rand()
        self.norm.running_mean.add_(noise)
        logits = self.head(self.drop(self.norm(x)))
        return self.loss(logits, labels) + 0.1 * noise, logits


def random_states() -> list[Any]:
    return [random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state().tolist()]


@pytest.mark.parametrize("training", [False, True])
def test_a_rehearsal_leaves_no_trace(build: Build, training: bool) -> None:
    torch.manual_seed(0)
    trainer = build(Stateful())
    model = trainer.model
    assert isinstance(model, Stateful)
    model.train()
    model.norm.eval()
    batch = sample_batch(trainer)
    assert batch is not None
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = random_states()
    buffer = model.seen

    loss, _ = rehearse(trainer, batch, grad=True, training=training)

    assert loss.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (model.calls, hasattr(model, "last")) == (0, False)
    assert model.seen is buffer
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert random_states() == states


def test_a_rehearsal_puts_back_parameters_that_forward_moves(build: Build) -> None:
    trainer = build(Momentum(), eval_dataset=None)
    assert trainer.model is not None
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    assert inspect_model(trainer, probe_loss_scale=True) == Verdict()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def test_a_rehearsal_computes_as_training_does(build: Build) -> None:
    seen: list[torch.dtype] = []
    trainer = build(TupleModel(), bf16=True)
    assert isinstance(trainer.model, TupleModel)
    trainer.model.head.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    inspect_model(trainer, probe_loss_scale=False)
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize("stream", [False, True])
def test_training_after_an_inspection_is_bitwise_the_same(build: Build, stream: bool) -> None:
    def train(inspect: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        data = datasets.Dataset.from_dict(COLUMNS)
        given = data.to_iterable_dataset().shuffle(seed=1, buffer_size=4) if stream else data
        options = {"max_steps": 6, "per_device_train_batch_size": 2, "learning_rate": 0.1}
        trainer = build(Stateful(), data=given, eval_dataset=None, **options)
        if inspect:
            verdict = inspect_model(trainer, probe_loss_scale=True)
            assert verdict == Verdict(ignores_num_items=True)
        trainer.train()
        assert trainer.model is not None
        return trainer.model.state_dict()

    plain, inspected = train(False), train(True)
    assert plain.keys() == inspected.keys()
    assert all(torch.equal(plain[name], inspected[name]) for name in plain)

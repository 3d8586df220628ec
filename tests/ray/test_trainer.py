"""What a script written for transformers finds on the driver's object, and what its parts find on the workers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from ray.train import RunConfig, ScalingConfig
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from raytrainer import RayTrainer, RayTrainingArguments
from raytrainer.errors import ResourcesError, TrainingFailed, WorkerTraceback
from tests.ray.recipes import COMMON, classify_words, tiny_bert, tokenizer, vowels, without_times

pytestmark = pytest.mark.ray


class Watcher(TrainerCallback):
    """Remembers where and with what it was called."""

    def __init__(self, trainer: Any = None) -> None:
        self.trainer = trainer
        self.steps: list[int] = []
        self.pid = os.getpid()
        self.sees_trainer = False

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.steps.append(state.global_step)
        self.pid = os.getpid()
        self.sees_trainer = self.trainer is not None and self.trainer.state is state


class ScaledTrainer(RayTrainer):
    """Overrides what users override; each override leaves a trace in the metrics."""

    def __init__(self, *args: Any, scale: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scale = scale

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        return (loss * self.scale, outputs) if return_outputs else loss * self.scale

    def get_train_dataloader(self) -> Any:
        self.dataloader_pid = os.getpid()
        return super().get_train_dataloader()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=self.args.learning_rate)
        return self.optimizer

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        metrics = super().evaluate(*args, **kwargs)
        optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        here = {"eval_pid": os.getpid(), "eval_sgd": float(isinstance(optimizer, torch.optim.SGD))}
        return {**metrics, **here, "eval_loader_pid": getattr(self, "dataloader_pid", 0), "eval_scale": self.scale}

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        super().log({**logs, "scale": self.scale}, *args, **kwargs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def trained(folder: Path, ray_cluster: None) -> Any:
    """One training with everything in it, on two workers."""
    parts = classify_words()
    before = {name: tensor.clone() for name, tensor in parts["model"].state_dict().items()}
    arguments = RayTrainingArguments(
        folder / "out", **{**COMMON, "save_strategy": "steps", "save_steps": 4, "max_steps": 8}
    )
    watcher = Watcher()
    trainer: Any = ScaledTrainer(
        args=arguments,
        scale=2.0,
        callbacks=[watcher],
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=str(folder / "storage"), name="everything"),
        **{**parts, "eval_dataset": {"first": vowels(7, 5), "second": vowels(5, 6)}},
    )
    late = Watcher(trainer)
    trainer.add_callback(late)
    trainer.train()
    trainer.test_before, trainer.test_watchers = before, (watcher, late)
    return trainer


def test_the_model_passed_in_holds_the_trained_weights(trained: Any) -> None:
    changed = [
        not torch.equal(tensor, trained.test_before[name]) for name, tensor in trained.model.state_dict().items()
    ]
    assert any(changed)


def test_overrides_ran_on_the_workers(trained: Any) -> None:
    last = [entry for entry in trained.state.log_history if "eval_first_loss" in entry][-1]
    assert last["scale"] == 2.0
    evaluation = trained.evaluate()
    assert evaluation["eval_pid"] != os.getpid()
    assert evaluation["eval_scale"] == 2.0
    assert {"eval_first_loss", "eval_second_accuracy"} <= evaluation.keys()


def test_state_comes_back(trained: Any) -> None:
    assert trained.state.global_step == trained.state.max_steps == 8
    assert [entry["step"] for entry in trained.state.log_history if "loss" in entry] == list(range(1, 9))
    assert trained.is_world_process_zero() and trained.is_local_process_zero()


def test_callbacks_ran_on_a_worker_and_their_state_came_back(trained: Any) -> None:
    watcher, late = trained.test_watchers
    assert watcher.steps == late.steps == list(range(1, 9))
    assert watcher.pid != os.getpid()
    assert late.sees_trainer and not watcher.sees_trainer
    assert late.trainer is trained


def test_saving_and_logging_on_the_driver(trained: Any, tmp_path: Path) -> None:
    trained.save_model(str(tmp_path / "model"))
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert (tmp_path / "model" / "tokenizer.json").exists()
    trained.save_state()
    state = json.loads((Path(trained.args.output_dir) / "trainer_state.json").read_text())
    assert state["global_step"] == 8
    trained.save_metrics("train", {"train_loss": 1.0})
    assert (Path(trained.args.output_dir) / "train_results.json").exists()
    trained.log_metrics("train", {"train_loss": 1.0})
    trained.create_model_card(model_name="x")
    assert (Path(trained.args.output_dir) / "README.md").exists()


def test_other_methods_and_attributes_work_on_the_driver(trained: Any) -> None:
    assert trained.args.learning_rate == COMMON["learning_rate"]
    assert trained.label_names == ["labels"]
    assert trained.accelerator.num_processes == 1
    assert isinstance(trained.optimizer, torch.optim.SGD)
    # A linear schedule over 8 steps, all of them done.
    assert trained.lr_scheduler.last_epoch == 8
    assert trained.optimizer.param_groups[0]["initial_lr"] == COMMON["learning_rate"]
    assert trained.lr_scheduler.get_last_lr() == [trained.optimizer.param_groups[0]["lr"]] == [0.0]
    assert next(iter(trained.get_train_dataloader()))["input_ids"].shape[0] == 4
    assert not hasattr(trained, "no_such_attribute")
    assert trained.pop_callback(EarlyStoppingCallback) is None
    assert any(isinstance(callback, Watcher) for callback in trained.callback_handler.callbacks)


def test_resume_goes_on_from_the_last_checkpoint(trained: Any, folder: Path) -> None:
    """The run is ended at step 8; it goes on to 12, and its callbacks with what they knew."""
    watcher = Watcher()
    again = ScaledTrainer(
        args=RayTrainingArguments(folder / "out", **{**COMMON, "max_steps": 12}),
        scale=2.0,
        callbacks=[watcher],
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=str(folder / "storage"), name="everything"),
        **{**classify_words(), "eval_dataset": vowels(7, 5)},
    )
    output = again.train(resume_from_checkpoint=True)
    assert output.global_step == 12
    assert watcher.steps == list(range(1, 13))
    assert [entry["step"] for entry in again.state.log_history if "loss" in entry] == list(range(1, 13))


def make_model() -> Any:
    make_model.calls += 1  # type: ignore[attr-defined]  # counts the calls in this process
    return tiny_bert()


make_model.calls = 0  # type: ignore[attr-defined]  # as above


def test_with_model_init_nothing_is_built_until_asked_for(tmp_path: Path, ray_cluster: None) -> None:
    parts = classify_words()
    del parts["model"]
    trainer = RayTrainer(
        model_init=make_model,
        args=TrainingArguments(tmp_path, use_cpu=True, **{**COMMON, "max_steps": 3}),
        scaling_config=ScalingConfig(num_workers=1),
        **parts,
    )
    trainer.train()
    assert make_model.calls == 0  # type: ignore[attr-defined]  # as above
    trained = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    assert make_model.calls == 1  # type: ignore[attr-defined]  # as above
    assert any(not torch.equal(tensor, trained[name]) for name, tensor in tiny_bert().state_dict().items())

    arguments = TrainingArguments(tmp_path, use_cpu=True, **{**COMMON, "eval_strategy": "no"})
    reference = Trainer(trainer.model, arguments, **parts)
    assert without_times(trainer.evaluate())["eval_loss"] == pytest.approx(reference.evaluate()["eval_loss"], abs=1e-6)


class Endless(torch.utils.data.IterableDataset[dict[str, Any]]):
    """Has no length."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            yield from vowels(8, 1)


def test_iterable_dataset_optimizer_class_and_logits_for_metrics(tmp_path: Path, ray_cluster: None) -> None:
    def first_class(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return logits[:, :1]

    def width(prediction: Any) -> dict[str, float]:
        return {"width": float(prediction.predictions.shape[1])}

    trainer = RayTrainer(
        tiny_bert(),
        RayTrainingArguments(tmp_path, **{**COMMON, "max_steps": 3}),
        train_dataset=Endless(),
        eval_dataset=vowels(5, 2),
        data_collator=DataCollatorWithPadding(tokenizer(), padding="max_length", max_length=12),
        compute_metrics=width,
        preprocess_logits_for_metrics=first_class,
        optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.25}),
        scaling_config=ScalingConfig(num_workers=2),
    )
    assert trainer.train().global_step == 3
    assert trainer.state.log_history[0]["learning_rate"] == 0.25
    assert [e["eval_width"] for e in trainer.state.log_history if "eval_width" in e] == [1.0]


def test_optimizers_as_objects_train_the_model_they_were_made_for(tmp_path: Path, ray_cluster: None) -> None:
    parts = classify_words()
    head = parts["model"].classifier
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    before = {name: tensor.clone() for name, tensor in parts["model"].state_dict().items()}
    RayTrainer(
        args=RayTrainingArguments(tmp_path, **{**COMMON, "max_steps": 2}),
        optimizers=(optimizer, schedule),
        scaling_config=ScalingConfig(num_workers=1),
        **parts,
    ).train()
    changed = {name for name, tensor in parts["model"].state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


class Overflow(ArithmeticError):
    """Defined where only the driver can import it."""

    def __init__(self, step: int, why: str) -> None:
        super().__init__(step, why)
        self.step = step


class Breaks(TrainerCallback):
    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step == 1 and args.process_index == 1:
            raise Overflow(state.global_step, "too much")


def test_an_exception_on_a_worker_reaches_the_driver_as_itself(tmp_path: Path, ray_cluster: None) -> None:
    trainer = RayTrainer(
        args=RayTrainingArguments(tmp_path, **COMMON),
        callbacks=[Breaks()],
        scaling_config=ScalingConfig(num_workers=2),
        **classify_words(),
    )
    with pytest.raises(Overflow, match="too much") as caught:
        trainer.train()
    assert caught.value.step == 1
    assert isinstance(caught.value.__cause__, WorkerTraceback)
    assert caught.value.__cause__.rank == 1
    assert "in on_step_begin" in str(caught.value.__cause__)
    # The object is as it was, and trains when the callback is gone.
    trainer.remove_callback(Breaks)
    assert trainer.train().global_step == 10


def test_a_request_that_the_cluster_cannot_meet_fails_at_once(tmp_path: Path, ray_cluster: None) -> None:
    trainer = RayTrainer(
        args=RayTrainingArguments(tmp_path, **COMMON),
        scaling_config=ScalingConfig(num_workers=3, resources_per_worker={"CPU": 2, "accordion": 1}),
        **classify_words(),
    )
    with pytest.raises(ResourcesError, match=r"2 CPU, 1 accordion; the cluster has 4 CPU, 0 accordion"):
        trainer.train()


def test_load_best_model_at_end_brings_the_best_weights(tmp_path: Path, ray_cluster: None) -> None:
    parts = classify_words()
    changes = {"save_strategy": "steps", "eval_steps": 2, "save_steps": 2, "learning_rate": 0.5}
    trainer = RayTrainer(
        args=RayTrainingArguments(tmp_path, **{**COMMON, **changes, "load_best_model_at_end": True}),
        scaling_config=ScalingConfig(num_workers=2),
        **parts,
    )
    trainer.train()
    losses = {e["step"]: e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e}
    best = min(losses, key=losses.__getitem__)
    assert trainer.state.best_metric == losses[best]
    assert Path(trainer.state.best_model_checkpoint) == tmp_path / f"checkpoint-{best}"
    saved = AutoModelForSequenceClassification.from_pretrained(trainer.state.best_model_checkpoint)
    assert all(torch.equal(tensor, saved.state_dict()[name]) for name, tensor in trainer.model.state_dict().items())


def test_attributes_set_after_construction_reach_the_workers(tmp_path: Path, ray_cluster: None) -> None:
    parts = classify_words()
    trainer = RayTrainer(
        args=RayTrainingArguments(tmp_path, **{**COMMON, "max_steps": 2}),
        scaling_config=ScalingConfig(num_workers=1),
        **parts,
    )
    trainer.args.max_steps = 3
    trainer.compute_metrics = lambda prediction: {"rows": float(len(prediction.label_ids))}
    trainer.eval_dataset = Dataset.from_dict(vowels(6, 9)[:])
    assert trainer.train().global_step == 3
    assert without_times(trainer.evaluate())["eval_rows"] == 6.0


def test_a_model_that_was_prepared_on_the_driver_is_still_wrapped_on_the_workers(
    tmp_path: Path, ray_cluster: None
) -> None:
    parts = classify_words()
    quiet = {**COMMON, "eval_strategy": "no", "max_steps": 2}
    Trainer(args=TrainingArguments(tmp_path, use_cpu=True, bf16=True, **quiet), **parts).evaluate()
    assert parts["model"]._is_accelerate_prepared
    trainer = RayTrainer(
        args=RayTrainingArguments(tmp_path, **quiet), scaling_config=ScalingConfig(num_workers=2), **parts
    )
    assert trainer.train().global_step == 2


@dataclass
class DoublingArguments(TrainingArguments):
    """Derives a field from itself, once."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # transformers gives it no types
        self.learning_rate *= 2


class Peculiar(torch.nn.Module):
    """Has what not every model has: a parametrization, and state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2))
        self.calls = 0

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": self.calls}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.calls = state["calls"]

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        self.calls += self.training
        scores = self.layer(x)
        if labels is None:
            return (scores,)
        return torch.nn.functional.cross_entropy(scores, labels), scores


class SeesFlag(TrainerCallback):
    flag = 0
    limit_s = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.flag = args.flag
        group: Any = torch.distributed.group.WORLD
        self.limit_s = group._get_backend(torch.device("cpu")).options._timeout.total_seconds()


def test_unusual_models_and_arguments(tmp_path: Path, ray_cluster: None) -> None:
    sees, model = SeesFlag(), Peculiar()
    before = model.layer.parametrizations.weight.original1.clone()
    changes = {"max_steps": 3, "eval_strategy": "no", "ddp_timeout": 4321}
    arguments = DoublingArguments(str(tmp_path), use_cpu=True, **{**COMMON, **changes})
    arguments.flag = 5  # type: ignore[attr-defined]  # what a script may do
    rows = Dataset.from_dict({"x": [[0.0, 1.0], [1.0, 0.0]] * 8, "labels": [0, 1] * 8})
    trainer = RayTrainer(
        model,
        arguments,
        train_dataset=rows,
        callbacks=[sees],
        scaling_config=ScalingConfig(num_workers=1),
    )
    trainer.train()
    assert trainer.state.log_history[0]["learning_rate"] == 2 * COMMON["learning_rate"]
    assert sees.flag == 5
    assert sees.limit_s == 4321
    assert model.calls == 3
    assert not torch.equal(before, model.layer.parametrizations.weight.original1)
    prediction = trainer.predict(rows)
    prediction.label_ids[prediction.label_ids == 0] = 7  # type: ignore[index]  # an array, and a writable one


def test_what_training_changed_beside_the_weights_comes_home(trained: Any) -> None:
    """transformers takes the tokenizer's end token into the configuration; a run that is over says so."""
    assert trained.model.config.eos_token_id == trained.processing_class.eos_token_id == 1
    assert trained.control.should_training_stop


class NotesWhoIsZero(TrainerCallback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_evaluate(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        (self.folder / str(args.process_index)).write_text(str(state.is_world_process_zero))


def test_one_rank_is_zero_in_an_evaluation(tmp_path: Path, ray_cluster: None) -> None:
    trainer = RayTrainer(
        args=RayTrainingArguments(tmp_path / "out", **COMMON),
        callbacks=[NotesWhoIsZero(tmp_path)],
        scaling_config=ScalingConfig(num_workers=2),
        **classify_words(),
    )
    trainer.evaluate()
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["True", "False"]


class Dies(TrainerCallback):
    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2 and args.process_index == 1:
            os._exit(1)


def test_a_worker_that_dies_is_a_failed_training(tmp_path: Path, ray_cluster: None) -> None:
    trainer = RayTrainer(
        args=RayTrainingArguments(tmp_path, **COMMON),
        callbacks=[Dies()],
        scaling_config=ScalingConfig(num_workers=2),
        **classify_words(),
    )
    with pytest.raises(TrainingFailed, match="the worker of rank 1 is gone"):
        trainer.train()

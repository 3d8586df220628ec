"""The contract that every task keeps, without Ray: from a config and files to a trainer, and to what it leaves."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import datasets
import pytest
import torch
from transformers import AutoImageProcessor, AutoTokenizer, Seq2SeqTrainingArguments, Trainer, TrainingArguments

from raytrainer.checkpoints import Store
from raytrainer.config.schema import CONFIG, TASKS
from raytrainer.errors import UserError
from raytrainer.tasks.factory import Finished, TaskFactory
from tests.unit.task_rows import ROWS, Example, Row

pytestmark = pytest.mark.trains

TRAIN, EVAL, TEST = 48, 11, 7


class Case:
    """One task with its files in a folder.

    Args:
        task: which.
        folder: for the files, the run and the cache.
    """

    def __init__(self, task: str, folder: Path) -> None:
        self.task, self.folder, self.row = task, folder, ROWS[task]
        rng = Random(0)
        self.examples = {name: self._examples(rng, n) for name, n in [("train", TRAIN), ("eval", EVAL), ("test", TEST)]}
        for name in self.examples:
            self.write(name)

    def _examples(self, rng: Random, count: int) -> list[Example]:
        # A column that no task knows is always there.
        return [{**self.row.example(rng), "number": i} for i in range(count)]

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def write(self, name: str) -> None:
        lines = (json.dumps(example) for example in self.examples[name])
        self.path(name).write_text("\n".join(lines) + "\n")

    def factory(self, model: dict[str, Any] | None = None, **data: Any) -> TaskFactory:
        files = {name: str(self.path(name)) for name in self.examples}
        given = {**files, **self.row.data, **data}
        values = {"name": "run", "task": self.task, "model": {**self.row.model, **(model or {})}, "data": given}
        config = CONFIG.validate_python(values)
        return TaskFactory(config, Store(str(self.folder / "run")), Store(str(self.folder / "cache")))

    def arguments(self, **given: Any) -> TrainingArguments:
        kind = Seq2SeqTrainingArguments if self.task == "seq2seq" else TrainingArguments
        common: dict[str, Any] = {
            **{"use_cpu": True, "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "seed": 3},
            **{"per_device_train_batch_size": 8, "per_device_eval_batch_size": 4, "learning_rate": 1e-2},
        }
        return kind(output_dir=str(self.folder / "out"), **{**common, **self.row.training, **given})

    def trainer(self, **data: Any) -> Any:
        return self.factory(**data)(self.arguments())

    def train_rows(self, **data: Any) -> list[Any]:
        return list(self.trainer(**data).train_dataset.with_format(None))


def test_every_task_has_a_row() -> None:
    assert sorted(ROWS) == sorted(TASKS)


@pytest.fixture(params=ROWS)
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    # Two tests shall not find each other's files in the cache that datasets has of its own.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    yield Case(request.param, tmp_path)


def test_trains_evaluates_tests_and_leaves_a_model(case: Case) -> None:
    factory = case.factory()
    trainer = factory(case.arguments(max_steps=24, logging_steps=6, eval_strategy="steps", eval_steps=12))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.8 * losses[0]
    finished = factory.finish(trainer)
    for split in ("eval", "test"):
        for metric in ("loss", *case.row.metrics):
            assert math.isfinite(finished.metrics[f"{split}_{metric}"]), metric
    rows = (case.folder / "run" / "predictions.jsonl").read_text().splitlines()
    assert len([json.loads(row) for row in rows]) == TEST
    _loads(case.row, trainer, finished)


def _loads(row: Row, trainer: Trainer, finished: Finished) -> None:
    kind: Any = AutoTokenizer if "tokenizer" in row.model else AutoImageProcessor
    processor: Any = trainer.processing_class
    assert type(kind.from_pretrained(finished.model)) is type(processor)
    loaded = type(trainer.model).from_pretrained(finished.model).state_dict()
    trained = trainer.model.state_dict()
    assert loaded.keys() == trained.keys()
    assert all(torch.equal(loaded[name], trained[name]) for name in trained)


def test_every_number_of_an_evaluation_counts_each_example_once(case: Case) -> None:
    # 11 examples in batches of 4: what fills up the last one is not measured.
    trainer = case.trainer()
    assert len(trainer.eval_dataset) == EVAL
    all_at_once = case.factory()(case.arguments(per_device_eval_batch_size=EVAL))
    one, other = trainer.evaluate(), all_at_once.evaluate()
    for metric in case.row.metrics:
        assert one[f"eval_{metric}"] == pytest.approx(other[f"eval_{metric}"], abs=1e-6), metric


def test_prepared_examples_are_found_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    before = case.train_rows()
    file = case.path("train")
    stat = file.stat()
    case.examples["train"].reverse()
    case.write("train")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_size == stat.st_size
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(case.folder / "other"))
    assert case.train_rows() == before  # size and time are those of the file that was prepared
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    assert case.train_rows() != before
    # Whatever would change them makes them anew.
    assert len(case.train_rows(max_samples=20)) == 20


def test_the_same_seed_makes_the_same_weights(case: Case) -> None:
    factory = case.factory()
    one, same, other = (factory(case.arguments(seed=seed)).model.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_held_out_examples(case: Case) -> None:
    share, number = case.trainer(eval=0.25), case.trainer(eval=5)
    assert (len(share.train_dataset), len(share.eval_dataset)) == (TRAIN - 12, 12)
    assert (len(number.train_dataset), len(number.eval_dataset)) == (TRAIN - 5, 5)


def test_filter_and_max_samples(case: Case) -> None:
    trainer = case.trainer(filter={"number": {"min": 5}}, max_samples={"train": 20, "eval": 100})
    assert (len(trainer.train_dataset), len(trainer.eval_dataset)) == (20, EVAL - 5)


def test_a_column_that_is_not_there_is_named_with_the_nearest_one(case: Case) -> None:
    column = case.row.data.get(case.row.column, case.row.column)
    with pytest.raises(UserError, match=f"data.{case.row.column} = '{column}s'.*\n.*write '{column}'"):
        case.trainer(**{case.row.column: f"{column}s"})


def test_a_misspelt_setting_of_the_model_is_named(case: Case) -> None:
    from_config = {**case.row.model["from_config"], "initialiser_range": 0.1}
    with pytest.raises(UserError, match=r"model.from_config.initialiser_range = 0.1"):
        case.trainer(model={"from_config": from_config})


@pytest.mark.parametrize("case", [task for task, row in ROWS.items() if row.strange], indirect=True)
def test_a_label_that_training_lacks_is_named(case: Case) -> None:
    strange = case.row.strange
    assert strange is not None
    case.examples["eval"][3] = strange(case.examples["eval"][3])
    case.write("eval")
    setting = "data.tags" if case.task == "token-classification" else "data.label"
    with pytest.raises(UserError, match=rf"{setting} = .*data.eval has labels that are not among.*: '[\w-]+'"):
        case.trainer()

"""What a run means: told from its trainer, compared when it is resumed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from raytrainer.errors import ArgumentsError, Problem
from raytrainer.meaning import compare, meaning_of
from tests.ray.recipes import classify_words, tiny_bert, tokenizer, vowels

FIX = "what the run began with; or allow_changes=True (--allow-changes) where this is what you want"


def trainer(folder: Path, arguments: dict[str, Any] | None = None, **changes: Any) -> Trainer:
    """A trainer as a worker has it, but bare."""
    defaults = {"use_cpu": True, "report_to": "none", "per_device_train_batch_size": 4, "seed": 7}
    args = TrainingArguments(str(folder), **{**defaults, **(arguments or {})})
    return Trainer(args=args, **{**classify_words(), **changes})


def travelled(meaning: dict[str, Any]) -> dict[str, Any]:
    """As a manifest has it."""
    read: dict[str, Any] = json.loads(json.dumps(meaning, allow_nan=False))
    return read


@pytest.fixture(scope="module")
def meaning(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return meaning_of(trainer(tmp_path_factory.mktemp("out")))


def first_row_changed(dataset: Dataset) -> Dataset:
    rows = dataset.to_list()
    return Dataset.from_list([{**rows[0], "label": 1 - rows[0]["label"]}, *rows[1:]])


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    def __init__(self, count: int) -> None:
        self.rows = vowels(count, 3).to_list()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        raise AssertionError("a user's dataset may be slow or random: it is not read")


class Stream(torch.utils.data.IterableDataset[dict[str, Any]]):
    def __iter__(self) -> Iterator[dict[str, Any]]:
        raise AssertionError("reading it would lose rows")


def test_it_is_json(meaning: dict[str, Any]) -> None:
    assert travelled(meaning) == meaning
    assert meaning["model"]["class"] == "BertForSequenceClassification"
    assert meaning["data"].items() >= {"class": "Dataset", "examples": 64, "columns": ["input_ids", "label"]}.items()
    assert meaning["order"].items() >= {"global batch": 4, "seed": 7}.items()
    assert meaning["arguments"]["learning_rate"] == 5e-5


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        {"run_name": "another", "disable_tqdm": True},
    ],
)
def test_equal_trainers_mean_the_same(meaning: dict[str, Any], arguments: dict[str, Any], tmp_path: Path) -> None:
    again = meaning_of(trainer(tmp_path / "elsewhere", arguments))
    assert again == meaning
    assert compare(travelled(meaning), again, allow_changes=False) == []


def test_another_initialisation_of_the_same_model_is_the_same(meaning: dict[str, Any], tmp_path: Path) -> None:
    """A resumed run loads its weights, whatever was there before."""
    model = tiny_bert(vocabulary=len(tokenizer()))
    with torch.no_grad():
        model.get_parameter("classifier.bias").fill_(3)
    assert meaning_of(trainer(tmp_path, model=model)) == meaning


DIFFERENT: dict[str, tuple[Callable[[], dict[str, Any]], set[str]]] = {
    "other shapes": (lambda: {"model": tiny_bert(labels=3, vocabulary=len(tokenizer()))}, {"model, parameters"}),
    "fewer rows": (lambda: {"train_dataset": vowels(60, 3)}, {"data, examples", "data, rows"}),
    "other rows": (lambda: {"train_dataset": vowels(64, 9)}, {"data, rows"}),
    "one row": (lambda: {"train_dataset": first_row_changed(vowels(64, 3))}, {"data, rows"}),
    "other order": (lambda: {"train_dataset": vowels(64, 3).shuffle(seed=1)}, {"data, rows"}),
    "other columns": (
        lambda: {"train_dataset": vowels(64, 3).rename_column("label", "labels")},
        {"data, columns", "data, rows"},
    ),
    "other class of data": (
        lambda: {"train_dataset": Rows(64)},
        {"data, class", "data, columns", "data, rows"},
    ),
    "other batch": (lambda: {"arguments": {"per_device_train_batch_size": 8}}, {"order, global batch"}),
    "other accumulation": (lambda: {"arguments": {"gradient_accumulation_steps": 3}}, {"order, global batch"}),
    "other seed": (lambda: {"arguments": {"seed": 8}}, {"order, seed"}),
    "other data_seed": (lambda: {"arguments": {"data_seed": 8}}, {"order, data_seed"}),
    "last batch dropped": (lambda: {"arguments": {"dataloader_drop_last": True}}, {"order, dataloader_drop_last"}),
    "other sampling": (
        lambda: {"arguments": {"train_sampling_strategy": "sequential"}},
        {"order, train_sampling_strategy"},
    ),
}


@pytest.mark.parametrize("name", sorted(DIFFERENT))
def test_what_is_another_run_is_refused_or_listed(name: str, meaning: dict[str, Any], tmp_path: Path) -> None:
    make, settings = DIFFERENT[name]
    now = meaning_of(trainer(tmp_path, **make()))
    with pytest.raises(ArgumentsError) as caught:
        compare(travelled(meaning), now, allow_changes=False)
    assert {problem.setting for problem in caught.value.problems} == settings
    lines = compare(travelled(meaning), now, allow_changes=True)
    assert {line.split(":")[0] for line in lines} == settings


def test_a_problem_says_what_was_and_what_is(meaning: dict[str, Any]) -> None:
    now = copy.deepcopy(meaning)
    now["order"]["seed"] = 8
    with pytest.raises(ArgumentsError) as caught:
        compare(meaning, now, allow_changes=False)
    assert caught.value.problems == (Problem("order, seed", 8, "the checkpoint was trained with 7", FIX),)
    assert compare(meaning, now, allow_changes=True) == ["order, seed: 7 before, 8 now"]


def test_all_that_is_different_is_in_one_error(meaning: dict[str, Any]) -> None:
    now = copy.deepcopy(meaning)
    now["model"]["class"], now["data"]["examples"], now["order"]["global batch"] = "GPT2", 65, 8
    with pytest.raises(ArgumentsError) as caught:
        compare(meaning, now, allow_changes=False)
    assert [problem.setting for problem in caught.value.problems] == [
        "model, class",
        "data, examples",
        "order, global batch",
    ]


def test_other_arguments_are_told_and_allowed(meaning: dict[str, Any], tmp_path: Path) -> None:
    now = meaning_of(trainer(tmp_path, {"learning_rate": 1e-3, "max_steps": 20, "save_total_limit": 2}))
    assert compare(travelled(meaning), now, allow_changes=False) == [
        "learning_rate: 5e-05 before, 0.001 now (without effect: the optimizer goes on from the checkpoint)",
        "max_steps: -1 before, 20 now",
        "save_total_limit: None before, 2 now",
    ]


def test_an_argument_of_another_version_is_told(meaning: dict[str, Any]) -> None:
    now = copy.deepcopy(meaning)
    now["arguments"]["invented"] = 1
    assert compare(meaning, now, allow_changes=False) == ["invented: None before, 1 now"]
    assert compare(now, meaning, allow_changes=False) == ["invented: 1 before, None now"]


@pytest.mark.parametrize("data", [lambda: Rows(8), Stream, lambda: None], ids=["rows", "stream", "none"])
def test_what_cannot_be_read_without_harm_is_not_read(data: Callable[[], Any], tmp_path: Path) -> None:
    described = meaning_of(trainer(tmp_path, {"max_steps": 5}, train_dataset=data()))["data"]
    assert described["class"] in ("Rows", "Stream", "NoneType")
    assert described.get("examples") == (8 if described["class"] == "Rows" else None)
    assert "rows" not in described


def test_an_empty_dataset_has_no_rows(tmp_path: Path) -> None:
    described = meaning_of(trainer(tmp_path, train_dataset=vowels(4, 3).select([])))["data"]
    assert described == {"class": "Dataset", "examples": 0}


def drawing(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """A random transform, as augmentation is."""
    random.random(), np.random.random(), torch.rand(1)
    return rows


def random_states() -> list[str]:
    return [repr(random.getstate()), repr(np.random.get_state(legacy=True)), repr(torch.get_rng_state().tolist())]


@pytest.mark.parametrize("data", [vowels, lambda *args: vowels(*args).with_transform(drawing)], ids=["plain", "random"])
def test_telling_draws_no_random_number(data: Callable[[int, int], Dataset], tmp_path: Path) -> None:
    built = trainer(tmp_path, train_dataset=data(64, 3))
    before = random_states()
    told = meaning_of(built)
    assert random_states() == before
    assert told == meaning_of(built)


def test_a_format_does_not_change_the_rows(meaning: dict[str, Any], tmp_path: Path) -> None:
    for dataset in (vowels(64, 3).with_format("torch"), vowels(64, 3).with_transform(drawing)):
        assert meaning_of(trainer(tmp_path, train_dataset=dataset))["data"] == meaning["data"]


def test_one_that_adopts_may_have_another_order_and_its_arguments_have_effect(meaning: dict[str, Any]) -> None:
    now = copy.deepcopy(meaning)
    now["order"]["global batch"] = 8
    now["arguments"]["learning_rate"] = 1.0
    lines = ["order, global batch: 4 before, 8 now", "learning_rate: 5e-05 before, 1.0 now"]
    assert compare(meaning, now, allow_changes=False, adopt=True) == lines
    now["model"]["class"] = "Other"
    with pytest.raises(ArgumentsError, match="model, class"):
        compare(meaning, now, allow_changes=False, adopt=True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("weight_decay", " (without effect: the optimizer goes on from the checkpoint)"),
        ("eval_steps", " (without effect: transformers goes on from the checkpoint)"),
        ("max_grad_norm", ""),
    ],
)
def test_without_it_what_has_no_effect_is_told(name: str, reason: str, meaning: dict[str, Any]) -> None:
    now = copy.deepcopy(meaning)
    old, now["arguments"][name] = now["arguments"][name], 77
    assert compare(meaning, now, allow_changes=False) == [f"{name}: {old!r} before, 77 now{reason}"]

"""Labels of every kind get the numbers that they should have, and what is wrong with them is named."""

from __future__ import annotations

import re
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from raytrainer.errors import UserError
from raytrainer.tasks.labels import label_names, numbers_of


def splits(train: list[Any], other: list[Any] | None = None, names: list[str] | None = None) -> DatasetDict:
    found = {"train": train, "eval": train if other is None else other}
    features = Features({"label": ClassLabel(names=names)}) if names else None
    return DatasetDict({name: Dataset.from_dict({"label": rows}, features=features) for name, rows in found.items()})


@pytest.mark.parametrize(
    "train, given, names, numbers",
    [
        (["b", "a", "b"], None, ["a", "b"], {"a": 0, "b": 1}),
        (["b", "a"], ["b", "a", "c"], ["b", "a", "c"], {"b": 0, "a": 1}),
        ([3, 0, 1], None, ["0", "1", "2", "3"], {0: 0, 1: 1, 3: 3}),
        ([1, 2], ["zero", "one", "two"], ["zero", "one", "two"], {1: 1, 2: 2}),
        # Numbers that are no indexes keep what they say.
        ([-1, 0, 1], None, ["-1", "0", "1"], {-1: 0, 0: 1, 1: 2}),
        ([1999, 2026], None, ["1999", "2026"], {1999: 0, 2026: 1}),
        ([1, 5], ["5", "1"], ["5", "1"], {1: 1, 5: 0}),
        ([True, False], None, ["False", "True"], {False: 0, True: 1}),
        ([True, False], ["no", "yes"], ["no", "yes"], {False: 0, True: 1}),
        ([["a", "b"], [], ["c"]], None, ["a", "b", "c"], {"a": 0, "b": 1, "c": 2}),
    ],
)
def test_numbers(train: list[Any], given: list[str] | None, names: list[str], numbers: dict[Any, int]) -> None:
    data = splits(train)
    assert label_names(given, data, "label") == names
    assert numbers_of(data["train"], "label", names, "train") == numbers


def test_class_labels_are_known_by_name() -> None:
    """A folder of images without cats numbers its dogs 0."""
    train = splits([0, 1, 2], names=["cat", "dog", "eel"])
    assert label_names(None, train, "label") == ["cat", "dog", "eel"]
    other = splits([0, 1], names=["dog", "eel"])["eval"]
    assert numbers_of(other, "label", ["cat", "dog", "eel"], "eval") == {0: 1, 1: 2}


def test_class_labels_in_lists() -> None:
    features = Features({"label": List(ClassLabel(names=["O", "B-X"]))})
    data = DatasetDict({"train": Dataset.from_dict({"label": [[0, 1], [1]]}, features=features)})
    assert label_names(None, data, "label") == ["O", "B-X"]
    assert numbers_of(data["train"], "label", ["B-X", "O"], "train") == {0: 1, 1: 0}


@pytest.mark.parametrize(
    "data, given, message",
    [
        (splits(["a", "a"]), None, "data.label = 'label': the training examples have one label only: a"),
        (splits(["a", None]), None, "data.label = 'label': some examples have none"),
        (splits(["a", "b", "c"]), ["a", "b"], "data.train has labels that are not among a, b: 'c'"),
        (splits([0, 1, 2]), ["a", "b"], "data.train has labels that are not among a, b: '2'"),
        (splits(["a", "b"], ["a", "d"]), None, "data.eval has labels that are not among a, b: 'd'"),
        (splits([-1, 0, 1], [2]), None, "data.eval has labels that are not among -1, 0, 1: '2'"),
        (splits([0, 1], [-1], ["cat", "dog"]), None, "data.eval has labels that are not among cat, dog: '-1'"),
    ],
)
def test_mistakes(data: DatasetDict, given: list[str] | None, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        numbers_of(data["eval"], "label", label_names(given, data, "label"), "eval")


def test_mistakes_name_the_setting() -> None:
    data = DatasetDict({"train": Dataset.from_dict({"t": [["O"]]}, features=Features({"t": List(Value("string"))}))})
    with pytest.raises(UserError, match=r"data\.tags = 't'"):
        label_names(None, data, "t", "data.tags")

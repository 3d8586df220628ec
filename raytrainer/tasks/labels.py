"""Worker: labels in the data, whatever they are, and the numbers that a model knows them by."""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict

from raytrainer.errors import ArgumentsError, Problem

_NUMBER = re.compile(r"-?\d+|True|False")


def label_names(given: list[str] | None, splits: DatasetDict, column: str, setting: str = "data.label") -> list[str]:
    """Return the labels' names in the order of their numbers.

    Args:
        given: what the config says, None for what the data says.
        splits: the examples; those to train on tell the names.
        column: of the labels, single ones or lists of them.
        setting: in the config, that names the column.

    Raises:
        UserError: the data has a label that the config does not, or fewer than two.
    """
    feature = _feature(splits["train"], column)
    if isinstance(feature, ClassLabel):
        names = list(feature.names)
    else:
        found = _found(splits["train"], column, setting)
        names = [str(label) for label in found]
        # As many as the largest number says: 0, 1, 3 are four labels. Years are not 2,026 of them.
        if found and {*map(type, found)} == {int} and found[0] >= 0 and found[-1] < 2 * len(found):
            names = [str(number) for number in range(found[-1] + 1)]
    if len(names) < 2:
        reason = f"the training examples have one label only: {', '.join(names)}"
        raise ArgumentsError(Problem(setting, column, reason, "a column with at least two different labels"))
    if given is not None:
        numbers_of(splits["train"], column, given, "train", setting)
    return given or names


def numbers_of(
    split: Dataset, column: str, names: list[str], where: str, setting: str = "data.label"
) -> dict[Any, int]:
    """Return the number of each label that a split has.

    Args:
        split: the examples.
        column: of the labels, single ones or lists of them.
        names: of all labels. A number in the data is its own name where a number is among them, else the first of
            them is 0.
        where: which split, for the error.
        setting: in the config, that names the column.

    Raises:
        UserError: a label is not among the names, or missing.
    """
    feature, found = _feature(split, column), _found(split, column, setting)
    numbers = {name: number for number, name in enumerate(names)}
    if isinstance(feature, ClassLabel):
        # By name: a folder of images without cats begins its numbers at the dogs.
        spelled = {label: feature.int2str(label) if label >= 0 else str(label) for label in found}
    elif all(isinstance(label, int) for label in found) and not any(map(_NUMBER.fullmatch, names)):
        spelled = {label: names[label] if 0 <= label < len(names) else str(label) for label in found}
    else:
        spelled = {label: str(label) for label in found}
    if unknown := [label for label, name in spelled.items() if name not in numbers]:
        labels = ", ".join(repr(spelled[label]) for label in unknown[:5])
        reason = f"data.{where} has labels that are not among {', '.join(names[:10])}: {labels}"
        fix = "data.labels with all of them, or data.filter to leave those examples out"
        raise ArgumentsError(Problem(setting, column, reason, fix))
    return {label: numbers[name] for label, name in spelled.items()}


def model_labels(names: list[str]) -> dict[str, Any]:
    """Return the entries of a model's configuration that name its labels."""
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }


def _feature(split: Dataset, column: str) -> Any:
    feature = split.features[column]
    return getattr(feature, "feature", feature)


def _found(split: Dataset, column: str, setting: str) -> list[Any]:
    lists = hasattr(split.features[column], "feature")
    rows = ([None] if row is None else row for row in split[column]) if lists else [split.unique(column)]
    found = set(chain.from_iterable(rows))
    if None in found:
        reason = "some examples have none"
        raise ArgumentsError(Problem(setting, column, reason, "data.filter to leave them out, or mend the data"))
    return sorted(found, key=lambda label: (str(type(label)), label))

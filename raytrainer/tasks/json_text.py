"""Worker: text in JSON files stays text where it looks like a date."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import fsspec
from datasets import Dataset, Features, LargeList, List, Value


def with_dates_as_text(split: Dataset, paths: list[str], cache: str) -> Dataset:
    """Read files again where a reader made points in time of text.

    JSON has no points in time. datasets reads it with pyarrow, which makes them of "2024-05-01", and how they were
    written is lost.

    Args:
        split: what datasets made of the files.
        paths: the files, JSON lines or one list each.
        cache: an empty folder: datasets knows what it keeps there by path, whatever a file has become.

    Returns:
        The same examples, with text where there was text.
    """
    features = Features({name: _as_text(feature) for name, feature in split.features.items()})
    if features == split.features:
        return split
    arguments = {"paths": tuple(paths), "names": tuple(features)}
    return Dataset.from_generator(_rows, features=features, gen_kwargs=arguments, cache_dir=cache)


def _as_text(feature: Any) -> Any:
    if isinstance(feature, Value):
        return Value("string") if feature.dtype.startswith("timestamp") else feature
    if isinstance(feature, List | LargeList):
        return type(feature)(_as_text(feature.feature))
    return {name: _as_text(one) for name, one in feature.items()} if isinstance(feature, dict) else feature


def _rows(paths: tuple[str, ...], names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for path in paths:
        with fsspec.open(path, "rt", encoding="utf-8-sig", compression="infer") as file:
            lines = (line for line in file if line.strip())
            first = next(lines, "[]")
            one_list = first.lstrip().startswith("[")
            for row in json.loads(first + file.read()) if one_list else map(json.loads, chain([first], lines)):
                yield {name: row.get(name) for name in names}

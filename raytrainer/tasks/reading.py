"""Worker: reads what ``data`` in a config names, and cuts it into splits."""

from __future__ import annotations

import os
import posixpath
import tempfile
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict
from pyarrow import fs as filesystems

from raytrainer.config.data import Data, Files, MaxSamples, found
from raytrainer.errors import ArgumentsError, Problem, unknown_name
from raytrainer.tasks.json_text import with_dates_as_text

_BUILDERS = {
    **{".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet", ".arrow": "arrow"},
    ".txt": "text",
}
_SPLITS = ("train", "eval", "test")


def read(data: Data, seed: int, downloads: Path) -> DatasetDict:
    """Read the examples of a config.

    Args:
        data: what to read.
        seed: for the examples that are held out.
        downloads: a folder of this machine for files that come from elsewhere.

    Returns:
        The splits ``train`` and, where the config has them, ``eval`` and ``test``; at least one example each.

    Raises:
        UserError: a file is not there or cannot be read, or nothing is left of a split.
    """
    given = {name: getattr(data, name) for name in _SPLITS}
    splits = {
        name: _read_split(data, name, files, downloads)
        for name, files in given.items()
        if isinstance(files, str | list)
    }
    splits = {name: _filtered(split, data.filter, name) for name, split in splits.items()}
    if isinstance(data.eval, int | float):
        # Not the last ones: files are often sorted.
        if isinstance(data.eval, int) and data.eval >= len(splits["train"]):
            fix = f"a number below {len(splits['train'])}, or a share such as 0.1"
            raise ArgumentsError(
                Problem("data.eval", data.eval, f"there are {len(splits['train'])} training examples in all", fix)
            )
        cut = splits["train"].train_test_split(test_size=data.eval, seed=seed)
        splits |= {"train": cut["train"], "eval": cut["test"]}
    return DatasetDict({name: _limited(splits[name], data.max_samples, name) for name in _SPLITS if name in splits})


def require_columns(split: Dataset, columns: dict[str, str]) -> None:
    """Hold the columns that a config names against those that the data has.

    Args:
        split: the examples.
        columns: setting in the config to column.

    Raises:
        UserError: one is not there.
    """
    problems = [
        Problem(f"data.{setting}", column, f"the data has no such column, it has {', '.join(split.column_names)}",
                unknown_name(column, split.column_names))
        for setting, column in columns.items()
        if column not in split.column_names
    ]  # fmt: skip
    if problems:
        raise ArgumentsError(*problems)


def _read_split(data: Data, name: str, files: Files, downloads: Path) -> Dataset:
    setting = f"data.{name}"
    try:
        if data.hub is not None:
            names = files if isinstance(files, str) else "+".join(files)
            return datasets.load_dataset(data.hub, data.subset, split=names, revision=data.revision)
        paths = [path for one in ([files] if isinstance(files, str) else files) for path in _find(one, downloads)]
        if all(_is_saved(path) for path in paths):
            return datasets.concatenate_datasets([_saved(path) for path in paths])
        builder = data.format or ("imagefolder" if os.path.isdir(paths[0]) else _builder(setting, paths[0]))
        if builder == "imagefolder" and len(paths) == 1 and os.path.isdir(paths[0]):
            # Else a folder of one label has none. A file with the pictures' columns counts more than folders.
            said = {} if any(Path(paths[0]).rglob("metadata.*")) else {"drop_labels": False}
            return datasets.load_dataset(builder, data_dir=paths[0], split="train", cache_dir=str(downloads), **said)
        # What is kept is the prepared examples: a second copy in the home folder would only fill it.
        options: dict[str, Any] = {"cache_dir": str(downloads)}
        options |= {"delimiter": "\t"} if paths[0].removesuffix(".gz").endswith(".tsv") else {}
        split = datasets.load_dataset(builder, data_files={"train": paths}, split="train", **options)
        return with_dates_as_text(split, paths, str(downloads)) if builder == "json" else split
    except ArgumentsError:
        raise
    except FileNotFoundError as error:
        fix = f"a file that this machine sees; the folder it started in is {os.getcwd()}"
        raise ArgumentsError(Problem(setting, files, f"it is not there: {error}", fix)) from error
    except Exception as error:  # whatever a reader makes of a broken file
        reason = f"it cannot be read: {type(error).__name__}: {_innermost(error)}"
        fix = "a file that datasets.load_dataset reads, and data.format where its name does not say what it is"
        raise ArgumentsError(Problem(setting, files, reason, fix)) from error


def _is_saved(path: str) -> bool:
    return any(os.path.exists(os.path.join(path, name)) for name in ("state.json", "dataset_dict.json"))


def _saved(path: str) -> Dataset:
    loaded = datasets.load_from_disk(path)
    return loaded["train"] if isinstance(loaded, DatasetDict) else loaded


def _find(path: str, downloads: Path) -> list[str]:
    if path.startswith(("http://", "https://", "hf://")):
        return [path]
    if "://" in path:
        system, there = filesystems.FileSystem.from_uri(path)
        kind = system.get_file_info(there).type
        if kind == filesystems.FileType.NotFound:
            raise FileNotFoundError(path)
        # Files of several folders may have the same name.
        here = Path(tempfile.mkdtemp(dir=downloads)) / posixpath.basename(there.rstrip("/"))
        if kind == filesystems.FileType.Directory:
            here.mkdir()
        filesystems.copy_files(there, str(here), system, filesystems.LocalFileSystem(), use_threads=False)
        return [str(here)]
    if paths := found(path):
        return paths
    raise FileNotFoundError(path)


def _builder(setting: str, path: str) -> str:
    ending = os.path.splitext(path.removesuffix(".gz"))[1].lower()
    if ending not in _BUILDERS:
        fix = f"data.format: csv, json, parquet, arrow, text or imagefolder; or a name in {', '.join(_BUILDERS)}"
        raise ArgumentsError(Problem(setting, path, f"{ending or 'a name without an ending'} says no format", fix))
    return _BUILDERS[ending]


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _filtered(split: Dataset, rules: dict[str, Any], name: str) -> Dataset:
    if not rules:
        return split
    require_columns(split, {f"filter.{column}": column for column in rules})
    columns = list(rules)
    try:
        kept = split.filter(lambda *row: all(map(_keeps, row, rules.values())), input_columns=columns)
    except TypeError as error:
        fix = "numbers for columns of numbers, and for texts and lists, whose length counts"
        raise ArgumentsError(Problem("data.filter", rules, f"min and max cannot be compared: {error}", fix)) from error
    if not len(kept):
        reason = f"of {len(split)} examples of data.{name} none is left"
        raise ArgumentsError(Problem("data.filter", rules, reason, "a filter that some examples pass"))
    return kept


def _keeps(value: Any, rule: Any) -> bool:
    if isinstance(rule, list):
        return value in rule
    if isinstance(rule, dict):
        low, high, unwanted = rule.get("min"), rule.get("max"), rule.get("not", [])
        size = len(value) if isinstance(value, str | list) else value
        unwanted = unwanted if isinstance(unwanted, list) else [unwanted]
        inside = size is not None and (low is None or size >= low) and (high is None or size <= high)
        return (inside or low is high is None) and value not in unwanted
    return bool(value == rule)


def _limited(split: Dataset, limit: int | MaxSamples | None, name: str) -> Dataset:
    most = getattr(limit, name) if isinstance(limit, MaxSamples) else limit
    if not len(split):
        raise ArgumentsError(Problem(f"data.{name}", None, "there is not one example in it", "a file with examples"))
    return split if most is None or most >= len(split) else split.select(range(most))

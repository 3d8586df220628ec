"""What ``data`` in a config names is read, whatever kind of file it is; mistakes name the setting."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict
from PIL import Image

from raytrainer.config.data import Data
from raytrainer.errors import UserError
from raytrainer.tasks.reading import read
from tests.ray.s3 import S3Server

ROWS = [{"text": f"word {i}, more", "n": i} for i in range(6)]


def lines(separator: str) -> str:
    quoted = ([f'"{row["text"]}"', str(row["n"])] for row in ROWS)
    return "\n".join(separator.join(row) for row in [["text", "n"], *quoted]) + "\n"


def dataset() -> Dataset:
    return Dataset.from_list(ROWS)


def arrow(file: Path) -> None:
    dataset().save_to_disk(file.parent / "saved")
    (written,) = (file.parent / "saved").glob("*.arrow")
    os.rename(written, file)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "data.csv": lambda file: file.write_text(lines(",")),
    "data.tsv": lambda file: file.write_text(lines("\t")),
    "data.csv.gz": lambda file: file.write_bytes(gzip.compress(lines(",").encode())),
    "data.tsv.gz": lambda file: file.write_bytes(gzip.compress(lines("\t").encode())),
    "data.jsonl": lambda file: file.write_text("\n".join(json.dumps(row) for row in ROWS)),
    "data.json": lambda file: file.write_text(json.dumps(ROWS)),
    "data.JSON": lambda file: file.write_text(json.dumps(ROWS)),
    "data.parquet": lambda file: dataset().to_parquet(file),
    "data.arrow": arrow,
    "folder": lambda file: dataset().save_to_disk(file),
    "splits": lambda file: DatasetDict({"train": dataset(), "test": dataset()}).save_to_disk(file),
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What datasets itself keeps shall not be found by the next test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    yield


def read_data(folder: Path, **data: Any) -> DatasetDict:
    downloads = folder / "downloads"
    downloads.mkdir(exist_ok=True)
    return read(Data(**data), 0, downloads)


@pytest.mark.parametrize("name", WRITERS)
def test_reads(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    assert read_data(tmp_path, train=str(tmp_path / name))["train"].to_list() == ROWS


def test_lines_of_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one line\n\nanother\n")
    assert read_data(tmp_path, train=str(tmp_path / "a.txt"))["train"]["text"][:] == ["one line", "", "another"]


def test_a_format_counts_more_than_the_name(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text(lines(","))
    assert read_data(tmp_path, train=str(tmp_path / "data.txt"), format="csv")["train"].to_list() == ROWS


def test_several_files_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.jsonl", "a.jsonl"):
        (tmp_path / name).write_text(json.dumps({"text": name}))
    assert read_data(tmp_path, train=str(tmp_path / "*.jsonl"))["train"]["text"][:] == ["a.jsonl", "b.jsonl"]
    monkeypatch.chdir(tmp_path)
    assert read_data(tmp_path, train=["b.jsonl", "a.jsonl"])["train"]["text"][:] == ["b.jsonl", "a.jsonl"]


@pytest.mark.parametrize("given", [{}, {"format": "imagefolder"}])
def test_a_folder_of_images(given: dict[str, str], tmp_path: Path) -> None:
    for kind, colour in (("cat", 0), ("dog", 255)):
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        Image.new("L", (3, 2), colour).save(tmp_path / "pictures" / kind / "1.png")
    train = read_data(tmp_path, train=str(tmp_path / "pictures"), **given)["train"]
    assert train.features["label"].names == ["cat", "dog"]
    assert [(row["image"].size, row["image"].getpixel((0, 0)), row["label"]) for row in train] == [
        ((3, 2), 0, 0),
        ((3, 2), 255, 1),
    ]


def test_a_dataset_in_the_hubs_layout(tmp_path: Path) -> None:
    (tmp_path / "repository" / "data").mkdir(parents=True)
    for split in ("train", "validation"):
        dataset().to_parquet(tmp_path / "repository" / "data" / f"{split}-00000-of-00001.parquet")
    found = read_data(tmp_path, hub=str(tmp_path / "repository"), train="train[:4]", eval="validation")
    assert (found["train"].to_list(), found["eval"].to_list()) == (ROWS[:4], ROWS)
    with pytest.raises(UserError, match=r"data.eval = 'dev'.*[Uu]nknown split"):
        read_data(tmp_path, hub=str(tmp_path / "repository"), train="train", eval="dev")


def test_object_store(tmp_path: Path) -> None:
    from pyarrow import fs

    with S3Server() as server:
        root = server.bucket("data")
        head, _, query = root.partition("?")
        system, path = fs.FileSystem.from_uri(root)
        dataset().save_to_disk(tmp_path / "saved")
        fs.copy_files(str(tmp_path / "saved"), f"{path}/saved", destination_filesystem=system, use_threads=False)
        for number, name in enumerate(["x/part.jsonl", "y/part.jsonl"]):
            with system.open_output_stream(f"{path}/{name}") as stream:
                stream.write(json.dumps(ROWS[number]).encode())
        files = [f"{head}/{name}?{query}" for name in ("x/part.jsonl", "y/part.jsonl")]
        # Two files of one name do not overwrite each other.
        assert read_data(tmp_path, train=files)["train"].to_list() == ROWS[:2]
        assert read_data(tmp_path, train=f"{head}/saved?{query}")["train"].to_list() == ROWS
        with pytest.raises(UserError, match=r"data.train = 's3://data/runs/none.csv.*: it is not there"):
            read_data(tmp_path, train=f"{head}/none.csv?{query}")


def kept(tmp_path: Path, **filter: Any) -> list[int]:
    (tmp_path / "data.json").write_text(json.dumps(ROWS))
    return list(read_data(tmp_path, train=str(tmp_path / "data.json"), filter=filter)["train"]["n"])


@pytest.mark.parametrize(
    "rule, numbers",
    [
        (3, [3]),
        ([1, 5, 9], [1, 5]),
        ({"min": 4}, [4, 5]),
        ({"max": 1}, [0, 1]),
        ({"min": 1, "max": 4, "not": [2, 3]}, [1, 4]),
        ({"not": 0}, [1, 2, 3, 4, 5]),
    ],
)
def test_filter(rule: Any, numbers: list[int], tmp_path: Path) -> None:
    assert kept(tmp_path, n=rule) == numbers


def test_filters_are_all_kept_to(tmp_path: Path) -> None:
    assert kept(tmp_path, n={"min": 1}, text={"not": "word 1, more", "max": 12}) == [2, 3, 4, 5]


def test_what_is_missing_is_filtered_by_null(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,n\na,1\nb,\n")
    train = read_data(tmp_path, train=str(tmp_path / "data.csv"), filter={"n": {"not": None}})["train"]
    assert train["text"][:] == ["a"]


def test_held_out_examples_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    WRITERS["data.json"](tmp_path / "data.json")
    one, same = (read_data(tmp_path, train=str(tmp_path / "data.json"), eval=2) for _ in range(2))
    other = read(Data(train=str(tmp_path / "data.json"), eval=2), 5, tmp_path)
    assert one["eval"].to_list() == same["eval"].to_list() != other["eval"].to_list()
    assert sorted(one["train"]["n"][:] + one["eval"]["n"][:]) == [0, 1, 2, 3, 4, 5]


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no file": ({"train": "none.csv"}, r"data.train = 'none.csv': it is not there.*\n.*the folder it started in is"),
    "no match": ({"train": "*.parquet"}, r"data.train = '\*.parquet': it is not there"),
    "no ending": ({"train": "data.log"}, r"data.train = .*data.log': .log says no format\n.*data.format: csv"),
    "broken": ({"train": "data.json", "eval": "broken.json"}, r"data.eval = 'broken.json': it cannot be read: "),
    "broken gz": ({"train": "broken.csv.gz"}, r"data.train = 'broken.csv.gz': it cannot be read: "),
    "no folder": ({"train": "empty"}, r"data.train = 'empty': "),
    "no rows": ({"train": "empty.jsonl"}, r"data.train = "),
    "too many": ({"train": "data.json", "eval": 6}, r"data.eval = 6: there are 6 training examples.*\n.*below 6"),
    "all filtered": (
        {"train": "data.json", "filter": {"n": 9}},
        r"data.filter = \{'n': 9\}: of 6 examples of data.train",
    ),
    "filter of no column": ({"train": "data.json", "filter": {"m": 9}}, r"data.filter.m = 'm': .* it has text, n"),
    "a filter of another type": (
        {"train": "data.json", "filter": {"n": {"min": "a"}}},
        r"data.filter = .*: min and max cannot be",
    ),
    "different columns": ({"train": ["data.json", "other.json"]}, r"data.train = .*: it cannot be read"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    WRITERS["data.json"](tmp_path / "data.json")
    (tmp_path / "other.json").write_text('[{"text": {"a": 1}}]')
    (tmp_path / "data.log").write_text("x")
    (tmp_path / "broken.json").write_text('{"text": "a"\n[')
    (tmp_path / "broken.csv.gz").write_bytes(b"text,n\n1,2\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.jsonl").write_text("")
    data, message = MISTAKES[name]
    with pytest.raises(UserError) as raised:
        read_data(tmp_path, **data)
    assert re.search(message, str(raised.value)), str(raised.value)

"""Prepared examples, found again."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from raytrainer.checkpoints import Store
from raytrainer.config.schema import CONFIG
from raytrainer.tasks.cache import Cache, key_of
from raytrainer.tasks.task import Prepared
from raytrainer.tasks.text_classification import TextClassificationTask
from tests.unit.task_rows import BERT


def key(seed: int = 0, **data: Any) -> str:
    config = {"name": "x", "task": "text-classification", "model": BERT, "data": {"train": "train", **data}}
    return key_of(TextClassificationTask(CONFIG.validate_python(config)), seed)


def test_a_folder_laid_out_like_a_dataset_of_the_hub_is_told_by_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []
    for place, text in [("one", "text\na"), ("one", "text\nab"), ("other", "text\nab")]:
        folder = tmp_path / place / "corpus"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "train.csv").write_text(text)
        monkeypatch.chdir(folder.parent)
        keys.append(key(hub="./corpus"))
        assert key(hub="./corpus") == keys[-1]
    assert len(set(keys)) == 3
    assert key(hub="org/corpus") != key(hub="org/corpus", revision="v1")


def test_a_file_of_a_server_is_told_by_what_the_server_says(tmp_path: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    file = tmp_path / "train.csv"
    file.write_text("text")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        before = key(train=f"{url}/train.csv")
        assert key(train=f"{url}/train.csv") == before
        os.utime(file, (1e9, 1e9))
        assert key(train=f"{url}/train.csv") != before
        assert key(train=f"{url}/no.csv") != key(train=f"{url}/no.csv")
        server.shutdown()


def test_the_seed_counts_only_where_it_draws_what_is_held_out() -> None:
    assert key(0) == key(1)
    assert key(0, eval="eval") == key(1, eval="eval")
    assert key(0, eval=0.1) != key(1, eval=0.1)
    assert key(0, eval=5) != key(1, eval=5)


def test_runs_that_begin_at_the_same_time_prepare_once(tmp_path: Path) -> None:
    together = Barrier(4)

    def prepare(number: int) -> bool:
        cache = Cache(Store(str(tmp_path)), "examples")
        together.wait()
        with cache.alone():
            if cache.has():
                return False
            splits = DatasetDict({"train": Dataset.from_dict({"number": [number]})})
            cache.write(Prepared(splits, None, {"by": number}))
            return True

    with ThreadPoolExecutor(4) as pool:
        prepared = list(pool.map(prepare, range(4)))
    assert prepared.count(True) == 1
    found = Cache(Store(str(tmp_path)), "examples").load(None)
    assert found.splits["train"]["number"][:] == [prepared.index(True)]
    assert found.facts == {"by": prepared.index(True)}

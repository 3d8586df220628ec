"""Prepared examples, found again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from datasets import Dataset, DatasetDict

from raytrainer.checkpoints import Store
from raytrainer.tasks.cache import Cache
from raytrainer.tasks.task import Prepared


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

"""Worker: the examples of a config, prepared by rank 0 or found where an earlier run left them."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
from transformers import AutoImageProcessor, AutoTokenizer

from raytrainer.checkpoints import Store
from raytrainer.errors import Problem, ResourcesError
from raytrainer.outbox import Outbox
from raytrainer.ranks import gather
from raytrainer.tasks.cache import Cache, key_of
from raytrainer.tasks.models import image_processor_of, tokenizer_of
from raytrainer.tasks.reading import read, require_columns
from raytrainer.tasks.task import Prepared, TaskOf
from raytrainer.tasks.together import from_rank_0

if TYPE_CHECKING:
    from transformers import TrainingArguments


def prepared_for(task: TaskOf, store: Store, arguments: TrainingArguments) -> Prepared:
    """Return a task's examples as its trainer takes them; every rank takes part.

    Args:
        task: which.
        store: where prepared examples are kept.
        arguments: of which the seed matters, for examples that are held out.

    Raises:
        UserError: the data is not there, or not what the task needs; or not every machine sees the store.
    """
    seed = arguments.data_seed if arguments.data_seed is not None else arguments.seed

    def prepare() -> str:
        key = key_of(task, seed)
        cache = Cache(store, key)
        with cache.alone():
            if cache.has():
                _say(f"data: prepared by an earlier run, in {cache.address}")
                return key
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as downloads:
                raw = read(task.config.data, seed, Path(downloads))
                for split in raw.values():
                    require_columns(split, task.columns())
                processor = _processor(task, raw["train"])
                splits, facts = task.prepare(raw, processor)
                cache.write(Prepared(splits, processor, facts))
            sizes = ", ".join(f"{len(split):,} {name}" for name, split in splits.items())
            _say(f"data: {sizes} examples, prepared in {time.monotonic() - began:.1f} s, kept in {cache.address}")
        return key

    datasets.disable_progress_bars()
    cache = Cache(store, from_rank_0(prepare))
    if not all(gather(cache.has())):
        reason = "there are workers on several machines, and not all of them see what is written there"
        fix = "run.storage_path: s3://bucket/runs, or a folder that the machines share"
        raise ResourcesError(Problem("data.cache", store.path, reason, fix))
    kind: Any = AutoImageProcessor if _has_pictures(task) else AutoTokenizer
    return cache.load(partial(kind.from_pretrained, trust_remote_code=task.config.model.trust_remote_code))


def _processor(task: TaskOf, training: Any) -> Any:
    return image_processor_of(task.config.model) if _has_pictures(task) else tokenizer_of(task, training)


def _say(text: str) -> None:
    if Outbox.here is not None:
        Outbox.here.note(text)


def _has_pictures(task: TaskOf) -> bool:
    return bool(task.config.task == "image-classification")

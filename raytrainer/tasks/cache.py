"""Worker: prepared examples, kept in the storage, so that the next run of the same data finds them."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import posixpath
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import fsspec
import tokenizers
import transformers
from datasets import DatasetDict
from pyarrow import fs as filesystems

import raytrainer
from raytrainer.checkpoints import Store, join
from raytrainer.config.schema import Task
from raytrainer.scratch import scratch_folder
from raytrainer.tasks.task import Prepared, TaskOf, positions_of_new_model

_FACTS = "facts.json"


class Cache:
    """A folder for prepared examples, one folder in it for each data and tokenizer.

    Args:
        store: where it is.
        key: as :func:`key_of` gave it.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._key = store, key

    @property
    def address(self) -> str:
        return join(self._store.path, self._key)

    def has(self) -> bool:
        """Tell whether it is there, complete."""
        try:
            self._store.read(posixpath.join(self._key, _FACTS))
        except FileNotFoundError:
            return False
        return True

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until nobody else prepares the same examples, as trials do that begin at the same time.

        In an object store there is no such lock: there, whoever writes the same files writes them again.
        """
        if not self._store.local:
            yield
            return
        with open(_made(self._store.folder) / f".{self._key}.lock", "w") as lock:
            # Some network file systems have no locks; there two may prepare at once.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def write(self, prepared: Prepared) -> None:
        """Keep examples."""
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder) / self._key
            prepared.splits.save_to_disk(here)
            if prepared.processor is not None:
                prepared.processor.save_pretrained(here / "processor")
            self._store.put_folder(here, self._key)
            # Last: with it the folder is complete.
            self._store.write(posixpath.join(self._key, _FACTS), json.dumps(prepared.facts).encode())

    def load(self, load_processor: Any) -> Prepared:
        """Open what was written; files of a local storage are mapped, not read.

        Args:
            load_processor: makes the tokenizer or image processor of a folder.
        """
        facts = json.loads(self._store.read(posixpath.join(self._key, _FACTS)))
        folder = self._on_this_machine()
        splits = datasets.load_from_disk(str(folder))
        assert isinstance(splits, DatasetDict)
        there = folder / "processor"
        return Prepared(splits, load_processor(there) if there.is_dir() else None, facts)

    def _on_this_machine(self) -> Path:
        if self._store.local:
            return self._store.folder / self._key
        copy = scratch_folder(self._store.below(self._key))
        if not copy.is_dir():
            with tempfile.TemporaryDirectory(dir=_made(copy.parent)) as folder:
                self._store.fetch_folder(self._key, Path(folder) / self._key)
                try:
                    os.rename(Path(folder) / self._key, copy)
                except OSError:  # another rank of this machine was first
                    shutil.rmtree(Path(folder) / self._key, ignore_errors=True)
        return copy


def key_of(task: TaskOf, seed: int) -> str:
    """Return the name under which a config's examples are kept: another for whatever would change them."""
    config: Task = task.config
    data = config.data.model_dump(exclude={"cache"})  # type: ignore[attr-defined]  # every task has data
    files = [data[split] for split in ("train", "eval", "test") if isinstance(data[split], str | list)]
    names = [name for one in files for name in ([one] if isinstance(one, str) else one)]
    model = config.model.model_dump(include={"name", "revision", "tokenizer"})
    versions = [raytrainer.__version__, datasets.__version__, transformers.__version__, tokenizers.__version__]
    local = [config.model.name, config.model.tokenizer if isinstance(config.model.tokenizer, str) else None]
    new = config.model.from_config
    model_type = ((new or {}).get("model_type"), positions_of_new_model(new))
    drawn = seed if isinstance(data["eval"], int | float) else None
    seen = [config.task, data, model, model_type, drawn, versions]  # type: ignore[attr-defined]  # every task has its name
    if data["hub"] is not None:
        # A hub's dataset is told by its revision alone; a folder laid out like one by its files.
        names = [data["hub"]] if os.path.isdir(data["hub"]) else []
    prints = [_print(name) for name in names]
    prints += [_print(name) for name in local if name is not None]
    text = json.dumps([seen, prints], sort_keys=True, default=str)
    return f"{config.task}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"  # type: ignore[attr-defined]  # as above


def _print(name: str) -> list[Any]:
    """Return what tells a file, a folder or a pattern from its earlier self: names, sizes, times."""
    if name.startswith(("http://", "https://", "hf://")):
        return _print_of_url(name)
    if "://" in name:
        system, path = filesystems.FileSystem.from_uri(name)
        info = system.get_file_info(path)
        infos = [info]
        if info.type == filesystems.FileType.Directory:
            infos = system.get_file_info(filesystems.FileSelector(path, recursive=True))
        return [(one.path, one.size, one.mtime_ns) for one in sorted(infos, key=lambda one: one.path)]
    base = Path(os.path.abspath(os.path.expanduser(name)))
    if not base.exists():
        found = [Path(path) for path in sorted(glob.glob(str(base), recursive=True))]
    else:
        found = sorted(base.rglob("*")) if base.is_dir() else [base]
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in found if path.is_file()]


def _print_of_url(url: str) -> list[Any]:
    """Return what tells a file from its earlier self as its server says; another each time where it says nothing."""
    told: dict[str, Any] = {}
    # Reading fails where asking did, and says it better.
    with contextlib.suppress(Exception):
        system, path = fsspec.core.url_to_fs(url)
        told = system.info(path)
    said = [str(told[name]) for name in ("ETag", "Last-Modified", "blob_id", "xet_hash") if told.get(name)]
    return said or [uuid.uuid4().hex]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder

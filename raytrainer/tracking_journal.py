"""The run's own record of what MLflow shall have, in the run's folder: what a server missed is written from it."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from raytrainer.checkpoints import Store, parted
from raytrainer.secrets import masked
from raytrainer.tracking_entry import Entry
from raytrainer.tracking_head import Head, this_driver
from raytrainer.tracking_target import Target

FOLDER = "tracking"
_HEAD, _ENTRIES = "run.json", "entries"
# Seconds between two notes of how much the server has; what it is told twice is there once.
_MARK_S = 30.0
# Characters of a part of the record in an object store, which appends to nothing: the newest part is written again.
_PART = 100_000


class Journal:
    """The record of one MLflow run, a folder in ``tracking/`` of the run's folder; one process writes it at a time.

    Any thread may call its methods.

    Args:
        store: its folder.
        head: what its run.json says.
        known: whether it was there before this process.

    Attributes:
        head: as it is now.
        known: as given.
        count: how many entries it has.
    """

    def __init__(self, store: Store, head: Head, known: bool = False) -> None:
        self._store, self.head, self.known = store, head, known
        self.count = 0
        self._lock = threading.RLock()
        self._ours = False
        self._marked = time.monotonic()
        # In an object store: how many parts are full, and what the newest one has.
        self._parts, self._part = 0, ""
        # Whoever else writes here, a part is overwritten by nobody.
        self._name = uuid.uuid4().hex[:6]

    @property
    def place(self) -> str:
        """The folder of the run that it is a record of."""
        if self._store.local:
            return str(self._store.folder.parent.parent)
        return parted(parted(self._store.path)[0])[0]

    def read(self) -> list[Entry]:
        """Return all entries, oldest first; a line that was torn by the end of its writer is left out.

        Raises:
            OSError: the storage does not give them.
        """
        with self._lock:
            names = self._store.files("")
            parts = [name for name in names if name.startswith(_ENTRIES)]
            entries = []
            for name in parts:
                for line in self._store.read(name).decode(errors="replace").splitlines():
                    try:
                        entries.append(Entry.from_line(line))
                    except ValueError:
                        continue
            self._parts, self._part = len(parts), ""
            self.count = len(entries)
            return entries

    def claim(self, **changes: Any) -> None:
        """Note that this process writes it; done before there is anything in the record or in the store.

        Args:
            **changes: of the head, besides.

        Raises:
            OSError: the storage does not take it.
        """
        with self._lock:
            if not self._ours or changes:
                self.note(**this_driver(), **changes)
                self._ours = True

    def release(self) -> None:
        """Note that this process has ended its writing.

        Raises:
            OSError: the storage does not take it.
        """
        with self._lock:
            if self._ours:
                self.note(host="", pid=0, started=0.0)
                self._ours = False

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep entries.

        Raises:
            OSError: the storage does not take them.
        """
        text = "".join(f"{entry.to_line()}\n" for entry in entries)
        with self._lock:
            self.claim()
            if self._store.local:
                folder = self._store.folder
                with open(folder / f"{_ENTRIES}.jsonl", "ab+") as file:
                    # Behind a line that was torn.
                    torn = file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
                    file.write((b"\n" if torn else b"") + text.encode())
            else:
                part = self._part + text
                self._store.write(f"{_ENTRIES}-{self._parts:06d}-{self._name}.jsonl", part.encode())
                self._part = part
                if len(part) > _PART:
                    self._parts, self._part = self._parts + 1, ""
            self.count += len(entries)

    def note(self, **changes: Any) -> None:
        """Change the head.

        Raises:
            OSError: the storage does not take it.
        """
        with self._lock:
            head = dataclasses.replace(self.head, **changes)
            self._store.write(_HEAD, (json.dumps(dataclasses.asdict(head), indent=1) + "\n").encode())
            self.head = head
            self._marked = time.monotonic()

    def mark(self, written: int, now: bool) -> None:
        """Note how many entries the store has, soon or ``now``.

        Raises:
            OSError: the storage does not take it.
        """
        due = now or time.monotonic() - self._marked > _MARK_S
        if due and self.head.written != written:
            self.note(written=written)

    def remove(self) -> None:
        """Delete it, and the folder of records where it was the only one."""
        self._store.delete()
        self._store.prune(self.place)


def new_journal(folder: Store, target: Target, parent: str | None = None) -> Journal:
    """Begin the record of a run that is not made yet.

    Args:
        folder: of the run.
        target: what is asked of MLflow.
        parent: the key of the run that it appears under.
    """
    key, began = uuid.uuid4().hex, int(time.time() * 1000)
    head = Head(
        key=key,
        began=began,
        tracking_uri=masked(target.tracking_uri),
        experiment_name=target.experiment_name,
        experiment_id=target.experiment_id,
        run_name=target.run_name,
        run_id=target.run_id,
        parent=parent,
        parent_run_id=target.parent_run_id,
        ends=target.ends,
        tags={name: masked(value, name) for name, value in target.tags.items()},
    )
    return Journal(_at(folder, f"{began}-{key[:8]}"), head)


def read_journals(folder: Store) -> list[Journal]:
    """Return the records in a run's folder, oldest first; one that cannot be read is left out."""
    found = []
    for name in folder.folders(FOLDER):
        store = _at(folder, name)
        names = {each.name for each in dataclasses.fields(Head)}
        try:
            said: dict[str, Any] = json.loads(store.read(_HEAD))
            head = Head(**{key: value for key, value in said.items() if key in names})
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            continue
        found.append(Journal(store, head, known=True))
    return sorted(found, key=lambda journal: journal.head.began)


def take_over(journal: Journal, target: Target) -> list[Entry]:
    """Go on with a record in this process, in another store if the target names one, which is told all of it.

    Returns:
        Its entries.

    Raises:
        OSError: it cannot be read or written.
    """
    entries = journal.read()
    # A machine that lost its power may have noted more than it kept.
    changes: dict[str, Any] = {"written": min(journal.head.written, len(entries))}
    if journal.head.tracking_uri != masked(target.tracking_uri):
        changes = {"written": 0, "run_id": None, "tracking_uri": masked(target.tracking_uri)}
        changes |= {"experiment_id": target.experiment_id, "experiment_name": target.experiment_name}
    journal.claim(**changes)
    return entries


def _at(folder: Store, name: str) -> Store:
    return folder.below(FOLDER, name)

"""Driver: where a search is kept, and what is there already."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raytrainer.checkpoints import Store, on_this_machine
from raytrainer.errors import ArgumentsError, Problem
from raytrainer.searching.options import Options
from raytrainer.sweep.record_files import read_sweep, read_trials
from raytrainer.sweep.records import SweepRecord, seconds_ran

if TYPE_CHECKING:
    from raytrainer.searching.search import Subject

_NAME = "search"


@dataclass(frozen=True)
class Began:
    """A search's folder.

    Args:
        name: the search's.
        folder: where it is.
        record: of the search to go on with, None to begin one.
        seconds: that it has run already.
    """

    name: str
    folder: Store
    record: SweepRecord | None
    seconds: float = 0.0

    @property
    def where(self) -> str:
        """The folder, for people."""
        return self.folder.shown


def begin(subject: Subject, options: Options) -> Began:
    """Choose the folder.

    Without a name it is ``search`` in the folder of the trainer's runs, or ``search-2`` and so on where there is one.

    Raises:
        ArgumentsError: there is a search of that name, or none to go on with.
    """
    above = subject.folder
    if options.storage_path is not None:
        path = str(options.storage_path)
        filesystem = options.storage_filesystem
        above = Store(path if filesystem is not None else on_this_machine(path), filesystem)
    names = [options.name] if options.name else (_numbered(number) for number in itertools.count(1))
    last: Began | None = None
    for name in names:
        folder = above.below(name)
        record = _there(folder)
        if record is None:
            begun = Began(name, folder, None)
            break
        last = Began(name, folder, record, seconds_ran(record, read_trials(folder)))
        if options.name and not options.resume:
            fix = "resume=True to go on with it, or another name"
            raise ArgumentsError(Problem("name", name, f"there is a search in {last.where}, {record.state}", fix))
    if options.resume and last is not None:
        return last
    if options.resume is True:
        reason = f"there is no search in {begun.where}"
        raise ArgumentsError(Problem("resume", True, reason, "the name and storage_path of the search, or 'AUTO'"))
    return begun


def _numbered(number: int) -> str:
    return _NAME if number == 1 else f"{_NAME}-{number}"


def _there(folder: Store) -> SweepRecord | None:
    try:
        return read_sweep(folder)
    except FileNotFoundError:
        return None

"""The record of a run in MLflow, made on the driver: opened before the first step, gone on with after a resume."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time

from raytrainer.checkpoints import Store
from raytrainer.errors import UserError
from raytrainer.tracking_context import context_tags
from raytrainer.tracking_entry import Entry, State
from raytrainer.tracking_journal import Journal, new_journal, read_journals, take_over
from raytrainer.tracking_open import check_store, open_run
from raytrainer.tracking_page import ui_command
from raytrainer.tracking_run import RUNNING, TrackedRun
from raytrainer.tracking_seen import Seen
from raytrainer.tracking_sink import Tracker
from raytrainer.tracking_target import Target, tracking_target
from raytrainer.tracking_writer import Writer

__all__ = ["Target", "Tracker", "check_store", "open_child", "open_tracker", "tracking_target", "ui_command"]


def open_tracker(
    target: Target, folder: Store, again: bool = False, writer: Writer | None = None, wait: bool = True
) -> Tracker:
    """Open the run; to be called before any worker is started.

    Args:
        target: where to.
        folder: of the run, for its own record.
        again: whether to go on with the run that the record in the folder names, if there is one.
        writer: of the store, where other runs are written to it, too.
        wait: whether to wait for the store; else the writer does, whatever the target requires.

    Returns:
        The sink, which must be closed.

    Raises:
        UserError: if the store cannot be reached or used, or the run or experiment is not there, and it is required.
    """
    # Also what is gone on with by its id, after a training for example, or by its key, where it has no id yet.
    known = [each for each in read_journals(folder) if target.run_id in (None, each.head.run_id, each.head.key)]
    seen = Seen()
    if known and (again or target.run_id):
        journal = known[-1]
        if target.run_id == journal.head.key:
            target = dataclasses.replace(target, run_id=None)
        run, entries = go_on(journal, target)
        seen = Seen(entries if again else ())
    else:
        run = TrackedRun(
            target, new_journal(folder, dataclasses.replace(target, tags=context_tags(target, folder.path)))
        )
    if not wait or not _is_open(run):
        # The writer opens it.
        run.reopens = run.run_id is not None
        with contextlib.suppress(OSError):
            run.journal.claim()
    shared, resumes = writer is not None, again and run.journal.known
    tracker = Tracker(run, writer or Writer(target.tracking_uri), seen, shared, resumes)
    if run.journal.known and target.ends:
        tracker.add(_runs_again())
    tracker.writer.serve(run)
    return tracker


def _is_open(run: TrackedRun) -> bool:
    """Open a run now; returns False where it is left for later."""
    try:
        open_run(run)
        return True
    except UserError as error:
        if run.target.required:
            if not run.journal.known:
                run.journal.remove()
            raise
        run.trouble = error.problems[0].reason
        print(f"warning: MLflow is left for later: {run.trouble}", file=sys.stderr)
        return False


def go_on(journal: Journal, target: Target, parent: TrackedRun | None = None) -> tuple[TrackedRun, list[Entry]]:
    """Go on with a run that has a record, in the target's store.

    Args:
        journal: the record.
        target: where to; its run id, if it has one, is the record's.
        parent: the run that it appears under.

    Returns:
        The run, which has what the store lacks waiting, and all entries of the record.
    """
    entries = take_over(journal, target)
    run = TrackedRun(target, journal, parent)
    run.take(entries[journal.head.written :], len(entries))
    return run, entries


def open_child(parent: Tracker, folder: Store, name: str, tags: dict[str, str], goes_on: bool = True) -> Tracker:
    """Open a run under another one, or go on with the one that the folder's record names; returns at once.

    The store is told by the parent's writer, when it has the parent.

    Args:
        parent: the run that it appears under.
        folder: of what it records, for its own record.
        name: the run's.
        tags: its own, beside the parent's.
        goes_on: whether it is at work again where it has ended; else only what it lacks is written.

    Returns:
        The sink, which shares the parent's writer.

    Raises:
        OSError: the folder cannot be read.
    """
    target = dataclasses.replace(parent.run.target, run_id=None, run_name=name, parent_run_id=None, ends=True)
    target = dataclasses.replace(target, tags={**target.tags, **tags})
    seen = Seen()
    again: list[Entry] = []
    if known := read_journals(folder):
        run, entries = go_on(known[-1], target, parent.run)
        seen = Seen(entries)
        if goes_on:
            run.reopens, again = run.run_id is not None, [_runs_again()]
    else:
        made = dataclasses.replace(target, tags={**parent.run.journal.head.tags, **target.tags})
        run = TrackedRun(target, new_journal(folder, made, parent.run.key), parent.run)
        with contextlib.suppress(OSError):  # the writer tries again, and says so
            run.journal.claim()
    tracker = Tracker(run, parent.writer, seen, shared=True)
    parent.writer.serve(run, again)
    return tracker


def _runs_again() -> Entry:
    return Entry(state=State(RUNNING, int(time.time() * 1000)))

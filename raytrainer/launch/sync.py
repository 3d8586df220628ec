"""``raytrainer sync``: MLflow gets of a run or a sweep what it lacks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raytrainer.checkpoints import Store, on_this_machine
from raytrainer.errors import Problem, UserError
from raytrainer.run_record import read_record
from raytrainer.secrets import masked
from raytrainer.sweep.record_files import TRIALS, read_end, read_sweep, trial_folder
from raytrainer.sweep.records import End
from raytrainer.tracking import check_store, go_on
from raytrainer.tracking_entry import STATUSES, Entry, State
from raytrainer.tracking_head import Head
from raytrainer.tracking_journal import Journal, read_journals
from raytrainer.tracking_page import run_page
from raytrainer.tracking_run import RUNNING, TrackedRun
from raytrainer.tracking_target import Target, absolute
from raytrainer.tracking_writer import Writer

_NO_END = "its driver ended without a word: killed, out of memory, or its machine was lost"


@dataclass(frozen=True)
class _Found:
    """A record, and how what it records ended by the folder's own files: None where they do not say."""

    journal: Journal
    end: End | None


def sync(place: str, tracking_uri: str | None = None, force: bool = False) -> bool:
    """Write to MLflow what it lacks of a run or a sweep: runs, values, artifacts, end states.

    Args:
        place: the folder of the run or the sweep, a path or a URI.
        tracking_uri: another store than the one that is noted, or the same one with its password.
        force: whether to go on though a driver on another machine may still be at work.

    Returns:
        Whether all is written.

    Raises:
        UserError: there is nothing to write in the folder, or the store cannot be used.
    """
    found = list(_records(Store(on_this_machine(place))))
    if not found:
        fix = "the folder of a run or a sweep that was recorded in MLflow: storage_path/name, or output_dir"
        raise UserError(Problem("RUN", masked(place), "there is no record of MLflow in it", fix))
    free = list(_free(found, force))
    stores = {each.journal.head.key: _store(each.journal.head, tracking_uri) for each in free}
    writers = {uri: Writer(uri) for uri in stores.values()}
    for uri in writers:
        check_store(Target(uri, experiment_name=free[0].journal.head.experiment_name or "Default"))
    runs: dict[str, TrackedRun] = {}
    for each in free:  # parents first
        head = each.journal.head
        runs[head.key] = _serve(each, stores[head.key], runs.get(head.parent or ""), writers[stores[head.key]])
    left = [run for writer in writers.values() for run in writer.drain()]
    for run in runs.values():
        if run not in left:
            print(f"{run.target.run_name or run.run_id}: complete in {run_page(run)}")
    return not left and len(free) == len(found)


def _records(folder: Store) -> Iterator[_Found]:
    """Find the records of a run or a sweep and its trials, parents first."""
    yield from _of(folder, _end_of(folder))
    for name in folder.folders(TRIALS):
        if name.isdecimal():
            yield from _of(trial_folder(folder, int(name)), read_end(folder, int(name)))
    refit = folder.below("refit")
    yield from _of(refit, _end_of(refit))


def _of(folder: Store, end: End | None) -> Iterator[_Found]:
    journals = read_journals(folder)
    # What the folder says is said of the last training in it.
    yield from (_Found(journal, end if journal is journals[-1] else None) for journal in journals)


def _end_of(folder: Store) -> End | None:
    for read in (read_sweep, read_record):
        try:
            state = read(folder).state
        except (OSError, ValueError):
            continue
        return End(state) if state in STATUSES else None
    return None


def _free(found: list[_Found], force: bool) -> Iterator[_Found]:
    """Leave out whose driver is at work, and what is to appear under it."""
    busy: set[str] = set()
    for each in found:
        head, alive = each.journal.head, each.journal.head.is_alive()
        if alive:
            print(f"{head.run_name}: left alone, its driver is at work (process {head.pid})")
        elif alive is None and each.end is None and not force:
            print(f"{head.run_name}: left alone, its driver may be at work on {head.host}; --force if it is not")
        elif head.parent not in busy:
            yield each
            continue
        busy.add(head.key)


def _store(head: Head, given: str | None) -> str:
    """Return the address of the store to write to, with credentials, which a record does not have."""
    if given is not None:
        return absolute(given, Path.cwd())
    known = os.environ.get("MLFLOW_TRACKING_URI")
    if known and masked(absolute(known, Path.cwd())) == head.tracking_uri:
        return absolute(known, Path.cwd())
    if head.tracking_uri.startswith("http"):
        return head.tracking_uri.replace("://***@", "://")  # MLFLOW_TRACKING_USERNAME and others may say who asks
    if "***" in head.tracking_uri:
        fix = "the same address with its password, here or in MLFLOW_TRACKING_URI"
        raise UserError(Problem("--tracking-uri", head.tracking_uri, "a record keeps no password", fix))
    return head.tracking_uri


def _serve(found: _Found, uri: str, parent: TrackedRun | None, writer: Writer) -> TrackedRun:
    """Hand a run to the writer, with its end state, which is noted where there was none."""
    head = found.journal.head
    same = masked(uri) == head.tracking_uri
    target = Target(
        uri,
        experiment_name=head.experiment_name or (None if same else "Default"),
        experiment_id=head.experiment_id if same else None,
        run_name=head.run_name,
        parent_run_id=head.parent_run_id if same else None,
        ends=False,  # its state stays what it is until it gets the last one
    )
    run, entries = go_on(found.journal, target, parent)
    run.reopens = run.run_id is not None  # the store may have lost it
    known = next((entry.state for entry in reversed(entries) if entry.state is not None), None)
    if known is not None and known.status != RUNNING:
        run.take([Entry(state=known)])
        writer.serve(run)
    elif head.ends:
        writer.serve(run, [Entry(state=_state(found.end, entries, head))])
    else:
        writer.serve(run)
    return run


def _state(end: End | None, entries: list[Entry], head: Head) -> State:
    last = max((point.time for entry in entries for point in entry.points), default=head.began)
    if end is None:
        return State("KILLED", last, _NO_END)
    return State(STATUSES[end.state], last, end.error)

"""Writes to MLflow in the background: one writer for all runs of a program that go to the same store."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from raytrainer.errors import UserError
from raytrainer.secrets import masked
from raytrainer.tracking_entry import Entry
from raytrainer.tracking_lane import Lane
from raytrainer.tracking_open import open_run
from raytrainer.tracking_reach import reach
from raytrainer.tracking_run import TrackedRun

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_logger = logging.getLogger(__name__)
# Tries at the end, while a server that answers fails now and then, and seconds between two of them.
_LAST_TRIES, _PAUSE_S = 5, 0.5


class _Given(NamedTuple):
    """Entries of a run, and how many its record has, with these; the same None before they are kept."""

    run: TrackedRun
    entries: Sequence[Entry]
    upto: int | None = None


class Writer:
    """Writes to runs in the background, so that a slow server holds nobody up.

    A server that goes away is fault tolerance on purpose: no failed write leaves this class. Every entry is kept in
    the run's own record first, by a thread that waits for no server; another one writes to the store. What is not
    written waits, is tried again every few seconds and when :meth:`drain` is called; what is left then is told in one
    warning a run, and ``raytrainer sync`` writes it later.

    Args:
        tracking_uri: the store.
        retry: seconds between two tries while the server is away.
        patience: seconds that ``drain`` waits for a server that takes nothing.

    Attributes:
        trouble: why the server could not be asked, empty if it could.
    """

    def __init__(self, tracking_uri: str, retry: float = 5.0, patience: float = 30.0) -> None:
        self._uri, self._retry, self._patience = tracking_uri, retry, patience
        self.trouble = ""
        self._keeping = Lane("raytrainer-mlflow-record", self._keep, retry)
        self._sending = Lane("raytrainer-mlflow", self._send, retry)
        # The keeping thread's.
        self._unkept: dict[TrackedRun, list[Entry]] = {}
        self._warned = False
        self._kept = 0
        # The sending thread's: the runs that are not over; until when no try is made, for all and for one.
        self._runs: dict[TrackedRun, float] = {}
        self._until = 0.0

    def put(self, run: TrackedRun, entry: Entry) -> None:
        """Take what is to be written; returns at once.

        Args:
            run: where to.
            entry: what.
        """
        self.serve(run, [entry])

    def serve(self, run: TrackedRun, entries: Sequence[Entry] = ()) -> None:
        """Write what waits of a run, and more; returns at once."""
        self._keeping.put([_Given(run, entries)])

    def drain(self) -> Mapping[TrackedRun, dict[str, int]]:
        """Write all that waits; returns when that is done, or cannot be done.

        Returns:
            What the store lacks, by run.
        """
        self._keeping.finish(self._patience, lambda: self._kept)
        self._sending.finish(self._patience, self._progress)
        left = {run: run.waits for run in list(self._runs) if run.waits}
        under: dict[TrackedRun, list[TrackedRun]] = {}
        for run, waits in left.items():
            if run.parent is None:
                self._warn(run, [run], ", ".join(f"{count} {what}" for what, count in waits.items()))
            else:
                under.setdefault(run.parent, []).append(run)
        for parent, runs in under.items():
            self._warn(parent, runs, f"parts of {len(runs)} runs under it")
        for run in left:
            run.refused.clear()
        return left

    def _progress(self) -> int:
        runs = list(self._runs)
        # A large file that is on its way is progress, too.
        return time.monotonic_ns() if any(run.uploading for run in runs) else sum(run.sent for run in runs)

    def _warn(self, run: TrackedRun, lacking: Sequence[TrackedRun], lost: str) -> None:
        """Say what the store lacks of a run, or of those under it, whose record is below its folder."""
        reasons = [each.trouble or self.trouble or "".join(each.refused[:1]) for each in lacking]
        reason = next(filter(None, reasons), "the server takes too long")
        name = run.run_id or run.target.run_name or run.key
        later = not all(each.idle for each in lacking)
        fix = f"; to write it later: raytrainer sync {masked(run.journal.place)}" if later else ""
        _logger.warning("MLflow run %s lacks: %s (%s)%s", name, lost, reason[:400], fix)

    def _keep(self, given: list[_Given], ending: bool) -> bool:
        """Put entries into their runs' records, and hand them on."""
        new: dict[TrackedRun, list[Entry]] = {}
        for run, entries, _ in given:
            new.setdefault(run, []).extend(entries)
        for run in [*new, *(run for run in self._unkept if run not in new)]:
            late = self._unkept.pop(run, [])
            entries = [*late, *new.get(run, ())]
            try:
                if entries:
                    run.journal.append(entries)
            except OSError as error:
                self._unkept[run] = entries
                if not self._warned:
                    self._warned = True
                    place = masked(run.journal.place)
                    _logger.warning("what MLflow shall have is not kept in %s just now: %s", place, masked(str(error)))
            self._kept += 1
            self._sending.put([_Given(run, new.get(run, ()), run.journal.count)])
        return bool(self._unkept)

    def _send(self, given: list[_Given], ending: bool) -> bool:
        """Take entries that are kept, and write what waits of all runs."""
        for run, entries, upto in given:
            run.take(entries, upto)
            self._runs.setdefault(run, 0.0)
        for tries_left in reversed(range(_LAST_TRIES if ending else 1)):
            self._flush(ending)
            if not tries_left or not self._waiting():
                break
            time.sleep(_PAUSE_S)
        self._settle(ending)
        return self._waiting()

    def _waiting(self) -> bool:
        return any(not run.idle for run in self._runs)

    def _flush(self, now: bool) -> None:
        at = time.monotonic()
        due = [run for run, until in self._runs.items() if not run.idle and (now or at >= max(until, self._until))]
        if not due:
            return
        try:
            from mlflow.tracking import MlflowClient

            reach(self._uri)
            client = MlflowClient(self._uri)
        except Exception as error:
            self._wait_for_server(error)
            return
        self.trouble = ""
        for run in due:
            try:
                self._write(run, client)
            except Exception as error:
                run.trouble = _in_a_line(error)
                self._runs[run] = time.monotonic() + self._retry
                try:
                    reach(self._uri)  # else it is the run that is wrong, and not the server
                except Exception as away:
                    self._wait_for_server(away)
                    return

    def _write(self, run: TrackedRun, client: MlflowClient) -> None:
        if run.run_id is None or run.reopens:
            open_run(run)
        run.flush(client)
        run.trouble = ""

    def _wait_for_server(self, error: Exception) -> None:
        self.trouble = _in_a_line(error)
        self._until = time.monotonic() + self._retry

    def _settle(self, ending: bool) -> None:
        """Note in the records what the store has; runs that are over are served no more."""
        for run in list(self._runs):
            done = ending or run.over
            with contextlib.suppress(OSError):
                if run.idle:
                    run.journal.mark(run.upto, done)
                if done:
                    run.journal.release()
            if run.over and run.idle and not run.refused:
                del self._runs[run]


def _in_a_line(error: Exception) -> str:
    if isinstance(error, UserError):
        return masked(error.problems[0].reason)
    return masked(" ".join(f"{type(error).__name__}: {error}".split()))

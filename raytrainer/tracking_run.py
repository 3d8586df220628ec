"""An MLflow run that is open or will be made: what waits to be written to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, TypeVar

from raytrainer.secrets import masked
from raytrainer.tracking_entry import Data, Entry, Model, Point, State
from raytrainer.tracking_journal import Journal
from raytrainer.tracking_reach import retries
from raytrainer.tracking_store import ERROR_TAG, Gone, OpenRun
from raytrainer.tracking_target import Target

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

RUNNING = "RUNNING"
KEY_TAG = "raytrainer.key"
# What a server takes in one request.
_POINTS, _PAIRS = 1000, 100

_Item = TypeVar("_Item")


class TrackedRun:
    """An MLflow run that is open or will be made, what waits to be written to it, and the record of both.

    Its methods are the writer's, on one thread.

    Args:
        target: what was asked for.
        journal: the run's own record.
        parent: the run that it appears under; None where the target says it, or for none.

    Attributes:
        run_id: the store's name for it, None while it has none.
        experiment_id: the same for its experiment.
        reopens: whether it shall be opened before anything is written, though the store has it: it goes on.
        refused: what the store will never take, a line each.
        trouble: why the last write failed, empty if it did not.
        doubtful: whether the store may have it though nobody knows: the answer was lost, or its driver died.
        upto: how many of the record's entries it was given.
        sent: how often the store took something.
        over: whether the store has its end state.
        uploading: whether files are on their way, which may take long.
    """

    def __init__(self, target: Target, journal: Journal, parent: TrackedRun | None = None) -> None:
        self.target, self.journal, self.parent = target, journal, parent
        self.run_id, self.experiment_id = journal.head.run_id, journal.head.experiment_id
        self.reopens = False
        self.refused: list[str] = []
        self.trouble = ""
        self.doubtful = journal.known
        self.upto = journal.count
        self.sent = 0
        self.over = False
        self.uploading = False
        self._had: set[str] = set()
        self._had_error = False
        self._clear()

    def _clear(self) -> None:
        self._points: list[Point] = []
        self._params: list[tuple[str, str]] = []
        self._tags: list[tuple[str, str]] = []
        self._texts: list[tuple[str, str]] = []
        self._files: list[tuple[str, str]] = []
        self._data: list[Data] = []
        self._models: list[Model] = []
        self._state: State | None = None

    @property
    def key(self) -> str:
        """What names it in the store until it has an id."""
        return self.journal.head.key

    @property
    def waits(self) -> dict[str, int]:
        """What the store lacks: how much of what."""
        left = {
            "metric values": len(self._points),
            "parameters": len(self._params),
            "tags": len(self._tags),
            "datasets": len(self._data),
            "artifacts": len(self._texts) + len(self._files),
            "models": len(self._models),
            "end state": int(self._state is not None),
            "refused entries": len(self.refused),
        }
        return {what: count for what, count in left.items() if count}

    @property
    def idle(self) -> bool:
        """Whether nothing waits that a further try could write."""
        return self.run_id is not None and not self.reopens and not (self.waits.keys() - {"refused entries"})

    def take(self, entries: Sequence[Entry], upto: int | None = None) -> None:
        """Put entries behind what waits.

        Args:
            entries: what to write.
            upto: how many entries the record has, the last of these included; None where they are not in it.
        """
        self.upto = self.upto if upto is None else upto
        self.over = self.over and not entries
        for entry in entries:
            self._points += entry.points
            self._params += entry.params.items()
            self._tags += entry.tags.items()
            self._texts += entry.texts.items()
            self._files += entry.files.items()
            self._data += entry.data
            self._models += [entry.model] if entry.model else []
            self._state = entry.state or self._state
            if self._state is not None and self._state.status == RUNNING:
                self._state = None  # it goes on: how an earlier part of it ended says nothing any more

    def opened(self, run_id: str, experiment_id: str, params: Collection[str] = (), tags: Collection[str] = ()) -> None:
        """Note that the store has it, with these parameters, which cannot be changed, and these tags."""
        self.run_id, self.experiment_id, self._had = run_id, experiment_id, set(params)
        self.reopens = False
        self._had_error = ERROR_TAG in tags
        self.sent += 1
        with contextlib.suppress(OSError):
            self.journal.note(run_id=run_id, experiment_id=experiment_id)

    def begin_anew(self) -> None:
        """Note that the store has nothing of it: all of the record waits again.

        Raises:
            OSError: the record cannot be read or written.
        """
        entries = self.journal.read()
        self.journal.note(run_id=None, written=0)
        state = self._state
        self.run_id, self.doubtful = None, True
        self._clear()
        self.take(entries, len(entries))
        self._state = state or self._state

    def flush(self, client: MlflowClient) -> None:
        """Write all that waits to the run, which is open; raises what MLflow raises."""
        assert self.run_id is not None and self.experiment_id is not None, "it is open"
        run = OpenRun(client, self.run_id, self.experiment_id)
        with retries(1):
            self._send(self._tags, _PAIRS, run.tags)
            # Of those that several parts of the run gave the first counts.
            first = {name: value for name, value in reversed(self._params) if name not in self._had}
            self._params[:] = reversed(first.items())
            names = [name for name, _ in self._params]
            self._send(self._params, _PAIRS, run.params)
            self._had.update(names)
            self._send(self._points, _POINTS, run.points)
            self._send(self._data, _PAIRS, run.data)
            if self._state is not None:
                run.end(self._state, self._had_error)
                self._had_error = bool(self._state.error)
                self._state, self.over = None, True
                self.sent += 1
            # Last: artifacts have a store of their own, whose absence must not cost the metrics or the end state.
            self._send(self._texts, 1, run.text)
            self.uploading = True
            try:
                self._send(self._files, 1, run.file)
                self._send(self._models, 1, run.model)
            finally:
                self.uploading = False

    def _send(self, waiting: list[_Item], size: int, write: Callable[[Sequence[_Item]], None]) -> None:
        while waiting:
            batch = waiting[:size]
            self._send_batch(batch, write)
            del waiting[: len(batch)]
            self.sent += 1

    def _send_batch(self, batch: Sequence[_Item], write: Callable[[Sequence[_Item]], None]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            write(batch)
        except Gone as gone:
            self.refused.append(f"{gone} is gone")
        except MlflowException as error:
            # A server takes a batch whole or not at all: one bad name must not cost the others.
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            if len(batch) == 1:
                self.refused.append(masked(str(error)))
            else:
                half = len(batch) // 2
                self._send_batch(batch[:half], write)
                self._send_batch(batch[half:], write)

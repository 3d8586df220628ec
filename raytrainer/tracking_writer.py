"""What waits to be written to an MLflow run, and the thread on the driver that writes it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from raytrainer.tracking_run import Point, TrackedRun
from raytrainer.tracking_target import masked

_logger = logging.getLogger(__name__)
_Item = TypeVar("_Item")


class Writer:
    """Writes to one run in the background, so that a slow server holds nobody up.

    A server that goes away is fault tolerance on purpose: no failed write leaves this class. What is not written
    waits in memory, is tried again every few seconds and when the writer is closed; what is left then is told in
    one warning.

    Args:
        run: the open run.
        retry: seconds between two tries while the server is away.
        patience: seconds that ``close`` waits for a server that takes nothing.

    Attributes:
        trouble: why the last write failed, empty if it did not.
    """

    def __init__(self, run: TrackedRun, retry: float = 5.0, patience: float = 30.0) -> None:
        self._run, self._retry, self._patience = run, retry, patience
        self._params: list[tuple[str, str]] = []
        self._points: list[Point] = []
        self._texts: list[tuple[str, str]] = []
        self._end: tuple[str, str | None] | None = None
        self._refused: list[str] = []
        self.trouble = ""
        self._written = 0
        self._closing = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="raytrainer-mlflow", daemon=True)
        self._thread.start()

    def put(
        self,
        points: Sequence[Point] = (),
        params: Sequence[tuple[str, str]] = (),
        texts: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Take what is to be written; returns at once.

        Args:
            points: values of metrics.
            params: names and values.
            texts: names of artifacts and their contents.
        """
        with self._wake:
            self._points += points
            self._params += params
            self._texts += texts
            self._wake.notify()

    def close(self, end: tuple[str, str | None] | None) -> None:
        """Write all that waits and then the end state; returns when that is done, or cannot be done.

        Args:
            end: MLflow's status and the error, None to leave the run as it is.
        """
        with self._wake:
            self._end, self._closing = end, True
            self._wake.notify()
        while self._thread.is_alive():
            before = self._written
            self._thread.join(self._patience)
            if self._written == before:
                break
        self._warn_of_losses()

    def _work(self) -> None:
        closing = False
        while not closing:
            with self._wake:
                if self.trouble:
                    self._wake.wait_for(lambda: self._closing, timeout=self._retry)
                else:
                    self._wake.wait_for(lambda: self._closing or self._params or self._points or self._texts)
                closing = self._closing
            self._flush()

    def _flush(self) -> None:
        try:
            self._run.reach()
            self._send(self._params, 100, self._run.log_params)
            self._send(self._points, 1000, self._run.log_metrics)
            if self._end:
                self._run.end(*self._end)
                self._end = None
            # Last: artifacts have a store of their own, whose absence must not cost the metrics or the end state.
            self._send(self._texts, 1, lambda texts: self._run.log_text(*texts[0]))
            self.trouble = ""
        except Exception as error:
            self.trouble = masked(" ".join(f"{type(error).__name__}: {error}".split()))

    def _send(self, waiting: list[_Item], size: int, write: Callable[[Sequence[_Item]], None]) -> None:
        while waiting:
            with self._wake:
                batch = waiting[:size]
            self._send_batch(batch, write)
            with self._wake:
                del waiting[: len(batch)]
            self._written += len(batch)

    def _send_batch(self, batch: Sequence[_Item], write: Callable[[Sequence[_Item]], None]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            write(batch)
        except MlflowException as error:
            # A server takes a batch whole or not at all: one bad name must not cost the others.
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            if len(batch) == 1:
                self._refused.append(masked(str(error)))
            else:
                for item in batch:
                    self._send_batch([item], write)

    def _warn_of_losses(self) -> None:
        left = {
            "metric values": len(self._points),
            "parameters": len(self._params),
            "artifacts": len(self._texts),
            "end state": int(self._end is not None),
            "refused entries": len(self._refused),
        }
        lost = ", ".join(f"{count} {what}" for what, count in left.items() if count)
        if lost:
            reason = self.trouble or (self._refused[0] if self._refused else "the server takes too long")
            _logger.warning("MLflow run %s lacks: %s (%s)", self._run.run_id, lost, reason[:400])

"""The contract of whatever the driver hands the events of a run to."""

from __future__ import annotations

from typing import Protocol

from raytrainer.events import Event


class Sink(Protocol):
    """Takes the events of one run, on the driver.

    One background thread calls ``handle``, event after event in the order of rank 0. ``close`` comes after the
    last ``handle``, from any thread; a second ``close`` does nothing.
    """

    def handle(self, event: Event) -> None:
        """Take one event; returns soon, for the next one waits.

        Args:
            event: what rank 0 told.
        """

    def close(self, error: BaseException | None) -> None:
        """End the run as seen by this sink.

        Args:
            error: what ended the run, None when it is done.
        """

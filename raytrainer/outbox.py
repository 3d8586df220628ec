"""A worker's way to the driver. Imports nothing heavy: the worker times its imports through it."""

from __future__ import annotations

import time
from typing import ClassVar

from raytrainer.events import Event, Note, Phase
from raytrainer.wire import Wire


class Outbox:
    """Worker: sends events to the driver from rank 0, without waiting; other ranks send nothing.

    Attributes:
        here: this worker's, for what a trainer factory has to say; None outside a worker.
    """

    here: ClassVar[Outbox | None] = None

    def __init__(self, wire: Wire, rank: int) -> None:
        self._wire = wire if rank == 0 else None

    def send(self, event: Event) -> None:
        if self._wire is not None:
            self._wire.push(event)

    def settle(self) -> None:
        """Return when everything that was sent has arrived."""
        if self._wire is not None:
            self._wire.settle()

    def phase(self, name: str, since: float) -> float:
        """Send that a phase ended that began at ``since`` (time.monotonic), and return the time now."""
        now = time.monotonic()
        self.send(Phase(name, now - since))
        return now

    def note(self, text: str) -> None:
        self.send(Note(text))

    def warn(self, text: str) -> None:
        self.send(Note(text, warning=True))

"""A worker's way to the driver. Imports nothing heavy: the worker times its imports through it."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import ray

from raytrainer.events import Event, Note, Phase


class Outbox:
    """Worker: sends events to the driver's relay from rank 0, without waiting; other ranks send nothing.

    Attributes:
        here: this worker's, for what a trainer factory has to say; None outside a worker.
    """

    here: ClassVar[Outbox | None] = None

    def __init__(self, relay: Any, rank: int) -> None:
        self._relay = relay if rank == 0 else None

    def send(self, event: Event) -> None:
        if self._relay is not None:
            self._relay.push.remote(event)

    def settle(self) -> None:
        """Return when the relay has everything that was sent."""
        if self._relay is not None:
            ray.get(self._relay.wish.remote())

    def phase(self, name: str, since: float) -> float:
        """Send that a phase ended that began at ``since`` (time.monotonic), and return the time now."""
        now = time.monotonic()
        self.send(Phase(name, now - since))
        return now

    def note(self, text: str) -> None:
        self.send(Note(text))

    def warn(self, text: str) -> None:
        self.send(Note(text, warning=True))

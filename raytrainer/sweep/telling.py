"""What is told of a sweep while it runs, for MLflow: by its trials' processes, and by the driver."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from raytrainer.events import Evaluated, Event, Note, Phase, Printed, Saved
from raytrainer.sweep.records import End, TrialRecord
from raytrainer.wire import numbered

# Seconds between two messages of a trial: one that logs every step does not send every step.
_GATHER_S = 0.25
# Seconds that a trial waits at an evaluation for the driver's node to take what it told.
_SETTLE_S = 10.0
# What has other ways to the driver, or none.
_NOT_TOLD = (Evaluated, Note, Phase, Printed)


@dataclass(frozen=True)
class Told:
    """What a trial told, in order.

    Args:
        number: the trial's.
        said: its record as a turn to train begins, without its evaluations, and the events of that training.
    """

    number: int
    said: Sequence[TrialRecord | Event]


@dataclass(frozen=True)
class TrialEnded:
    """A trial goes on no more.

    Args:
        number: the trial's.
        end: how it ended.
        step: optimizer steps done.
        values: that it trained with.
        earlier: whether it ended before this driver took up the sweep.
    """

    number: int
    end: End
    step: int
    values: Mapping[str, Any] = field(default_factory=dict)
    earlier: bool = False


@dataclass(frozen=True)
class Lead:
    """How far the sweep is: trials that are over, and the best score of all so far."""

    over: int
    best: float
    time: float


class Teller:
    """Trial's process: a sink that hands over what a training logs to an actor beside the driver, many at a time.

    A driver's node that does not take it is fault tolerance on purpose: the trial goes on.

    Args:
        post: the actor, a :class:`raytrainer.relay.Relay`.
        record: of the trial as its turn begins.
    """

    def __init__(self, post: Any, record: TrialRecord) -> None:
        self._tell, self._number = numbered(post), record.number
        self._said: list[TrialRecord | Event] = [dataclasses.replace(record, history=(), arguments={})]
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._send()

    def handle(self, event: Event) -> None:
        if isinstance(event, _NOT_TOLD):
            return
        with self._lock:
            self._said.append(event)
            if isinstance(event, Saved):
                # From here on the trial goes on behind these steps, and does not tell of them again.
                self._send()
            elif self._timer is None:
                self._timer = threading.Timer(_GATHER_S, self._gathered)
                self._timer.daemon = True
                self._timer.start()

    def settle(self) -> None:
        """Hand over all that there is, and return when it is there: the process may be killed at any time after it."""
        with self._lock:
            sent = self._send()
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(sent, timeout=_SETTLE_S)

    def close(self, error: BaseException | None) -> None:
        self.settle()

    def _gathered(self) -> None:
        with self._lock:
            self._timer = None
            if self._said:
                self._send()

    def _send(self) -> Any:
        told, self._said = Told(self._number, self._said), []
        return self._tell(told)


def teller(post: Any) -> Callable[[object], None]:
    """Return what tells the actor something, and does not wait for it."""
    return (lambda _: None) if post is None else numbered(post)

"""How a rank talks to the process that started it: the driver behind a relay, or a trial in this same process."""

from __future__ import annotations

import contextlib
import enum
import itertools
import queue
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import ray

from raytrainer.events import Evaluated, Event, Saved


class Wish(enum.Enum):
    """What the workers shall do at their next step."""

    GO_ON = "go on"
    LEAVE = "leave"
    STOP = "stop"


class Verdict(enum.Enum):
    """What a trial shall do after an evaluation."""

    GO_ON = "go on"
    SAVE = "save"
    STOP = "stop"


@dataclass(frozen=True)
class Delivery:
    """The result of a job: a reference to it, in a list so that Ray passes on the reference itself."""

    reference: list[ray.ObjectRef[Any]]


@dataclass(frozen=True)
class Question:
    """A trial's evaluation, for which rank 0 waits to be told what to do.

    Args:
        name: of the question, which no other has.
        evaluated: the evaluation.
    """

    name: str
    evaluated: Evaluated


@dataclass(frozen=True)
class Post:
    """An order on its way to the workers.

    Args:
        number: counts the orders of a group of workers.
        order: a reference to the order pickled, in a list so that Ray passes on the reference itself. Pickled, because
            reading it imports transformers and the user's code, and a worker wants to time that.
        path: the driver's ``sys.path``.
        last: whether the workers leave when they have carried it out.
    """

    number: int
    order: list[ray.ObjectRef[bytes]]
    path: list[str]
    last: bool


class Wire(Protocol):
    """A rank's end; any thread may use it. Only rank 0 does, but for ``hand_in``, ``share`` and a node's figures."""

    def push(self, event: Event) -> None:
        """Send an event, without waiting."""

    def settle(self) -> None:
        """Return when everything that was pushed has arrived."""

    def saved(self) -> dict[str, Saved]:
        """Return what was saved last into each folder since the order was given, by whichever attempt."""

    def wish(self) -> Wish:
        """Return what the workers shall do at their next step."""

    def forget_wish(self) -> None:
        """Begin anew: nobody wishes anything of this group yet."""

    def judge(self, evaluated: Evaluated) -> Verdict:
        """Tell of an evaluation, or of the checkpoint that was asked for then, and wait for what to do."""

    def hand_in(self, key: str, part: Any) -> None:
        """Give rank 0 this rank's part of what it waits for under a key."""

    def handed_in(self, key: str, count: int) -> list[Any]:
        """Return the parts under a key when there are ``count`` of them."""

    def share(self, key: str, value: Any, rank: int, count: int) -> Any:
        """Return on every rank what rank 0 says under a key; rank 0 does not wait for the others.

        Args:
            key: names this question among all of a run's.
            value: rank 0's; any other rank's counts for nothing.
            rank: this rank.
            count: how many ranks there are.
        """

    def deliver(self, result: Any) -> None:
        """Hand over what the job brought, and return when it is in the other's hands."""


def numbered(relay: Any) -> Callable[..., Any]:
    """Return what pushes events to a relay, each call after the one before, and returns a reference at once."""
    sender, numbers = uuid.uuid4().hex, itertools.count()
    return lambda *events: relay.push_next.remote(sender, next(numbers), *events)


class RelayWire:
    """A rank's end of a :class:`raytrainer.relay.Relay`.

    A thread sends what is pushed, many events at a time where they come fast: a call of an actor takes half a
    millisecond, which a training step need not wait for.

    Args:
        relay: the actor.
    """

    def __init__(self, relay: Any) -> None:
        self._relay, self._push = relay, numbered(relay)
        self._pushed: queue.Queue[Event] = queue.Queue()
        threading.Thread(target=self._send, name="raytrainer-sender", daemon=True).start()

    def push(self, event: Event) -> None:
        self._pushed.put(event)

    def settle(self) -> None:
        self._pushed.join()
        ray.get(self._relay.wish.remote())

    def _send(self) -> None:
        while True:
            events = [self._pushed.get()]
            while not self._pushed.empty():
                events.append(self._pushed.get_nowait())
            # A relay that is gone takes the driver with it: nobody is left to tell.
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(self._push(*events))
            for _ in events:
                self._pushed.task_done()

    def saved(self) -> dict[str, Saved]:
        saved: dict[str, Saved] = ray.get(self._relay.saved.remote())
        return saved

    def wish(self) -> Wish:
        wish: Wish = ray.get(self._relay.wish.remote())
        return wish

    def forget_wish(self) -> None:
        ray.get(self._relay.ask.remote(Wish.GO_ON))

    def judge(self, evaluated: Evaluated) -> Verdict:
        self._pushed.join()
        verdict: Verdict = ray.get(self._relay.judge.remote(uuid.uuid4().hex, evaluated))
        return verdict

    def hand_in(self, key: str, part: Any) -> None:
        ray.get(self._relay.hand_in.remote(key, part))

    def handed_in(self, key: str, count: int) -> list[Any]:
        parts: list[Any] = ray.get(self._relay.handed_in.remote(key, count))
        return parts

    def share(self, key: str, value: Any, rank: int, count: int) -> Any:
        if count == 1:
            return value
        if rank == 0:
            ray.get(self._relay.share.remote(key, value, count - 1))
            return value
        return ray.get(self._relay.shared.remote(key))

    def deliver(self, result: Any) -> None:
        self._pushed.join()
        ray.get(self._relay.deliver.remote(uuid.uuid4().hex, Delivery([ray.put(result)])))

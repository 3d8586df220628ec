"""The way back from rank 0 to the driver: events while the run goes on, and the result at its end."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import ray

from raytrainer.events import Event
from raytrainer.sinks import Sink


@dataclass(frozen=True)
class Delivery:
    """The result of a job: a reference to it, in a list so that Ray passes on the reference itself."""

    reference: list[ray.ObjectRef[Any]]


@ray.remote(num_cpus=0)
class Relay:
    """An actor beside the driver. Rank 0 pushes, the driver drains; the order of pushing is kept."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event | Delivery] = asyncio.Queue()
        self._received = asyncio.Event()

    async def push(self, event: Event | Delivery) -> None:
        await self._events.put(event)

    async def drain(self, timeout: float) -> list[Event | Delivery]:
        """Return the events that wait; where there are none, wait up to ``timeout`` seconds for the first."""
        try:
            events = [await asyncio.wait_for(self._events.get(), timeout)]
        except asyncio.TimeoutError:
            return []
        while not self._events.empty():
            events.append(self._events.get_nowait())
        return events

    async def deliver(self, delivery: Delivery) -> None:
        """Hand over the result and return when the driver holds it: the object is gone with its worker."""
        self._received.clear()
        await self._events.put(delivery)
        await self._received.wait()

    async def received(self) -> None:
        self._received.set()


class Listener:
    """Driver: a thread that empties a relay while the main thread waits for Ray Train.

    A sink that raises is told nothing more, and its exception is raised when the block ends; it stops neither the
    training nor the other sinks.

    Args:
        relay: the actor.
        sinks: who is told each event, in order, from this one thread.
    """

    _WAIT_S = 1.0

    def __init__(self, relay: Any, sinks: list[Sink]) -> None:
        self.result: Any = None
        self._relay, self._sinks = relay, list(sinks)
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="raytrainer-listener", daemon=True)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        if error is None and self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        last = False
        while not last:
            # Asked before draining: what was pushed before the stop is still handed out.
            last = self._stopping.is_set()
            try:
                events = ray.get(self._relay.drain.remote(0.01 if last else self._WAIT_S))
            except ray.exceptions.RayError as failure:
                self._failure = self._failure or failure
                return
            for event in events:
                self._hand_out(event)

    def _hand_out(self, event: Event | Delivery) -> None:
        if isinstance(event, Delivery):
            self.result = ray.get(event.reference[0])
            ray.get(self._relay.received.remote())
            return
        for sink in list(self._sinks):
            try:
                sink.handle(event)
            except Exception as failure:
                self._failure = self._failure or failure
                self._sinks.remove(sink)

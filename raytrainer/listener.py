"""The driver's end of a relay: a thread that hands out what the workers tell."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

import ray

from raytrainer.events import Began, Ended, Evaluated, Event, Note
from raytrainer.sinks import Sink
from raytrainer.wire import Delivery, Question, Verdict


class Listener:
    """Driver: a thread that empties a relay while the main thread waits for Ray Train.

    A sink that raises is told nothing more, and its exception is raised when the block ends; it stops neither the
    training nor the other sinks. Where the judge raises, the training ends, and where the result cannot be read, there
    is none; both exceptions are raised when the block ends. Rank 0 waits for neither in vain.

    Args:
        relay: the actor.
        sinks: who is told each event, in order, from this one thread.
        judge: says what a trial does after an evaluation; the workers wait for it. None where they never ask.

    Attributes:
        result: what was delivered, None before.
        trainings: how often a training has begun on the workers, again after a failure included.
        training: whether the last of them goes on, as far as is known.
    """

    _WAIT_S = 1.0

    def __init__(self, relay: Any, sinks: list[Sink], judge: Callable[[Evaluated], Verdict] | None = None) -> None:
        self.result: Any = None
        self.trainings = 0
        self.training = False
        self._relay, self._sinks, self._judge = relay, list(sinks), judge
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
        # Otherwise each call would take up to a second more than its work. Where Ray has gone, nobody waits.
        with contextlib.suppress(ray.exceptions.RayError):
            self._relay.wake.remote()
        self._thread.join()
        if error is None and self._failure is not None:
            raise self._failure

    def say(self, text: str, warning: bool = False) -> None:
        """Tell the sinks something that the driver has to say, in its turn among the events."""
        self._relay.push.remote(Note(text, warning))

    def _run(self) -> None:
        last = False
        while not last:
            # Asked before draining: what was pushed before the stop is still handed out.
            last = self._stopping.is_set()
            try:
                events = ray.get(self._relay.drain.remote(uuid.uuid4().hex, 0.01 if last else self._WAIT_S))
            except ray.exceptions.RayError as failure:
                self._keep(failure)
                return
            for event in events:
                self._hand_out(event)

    def _hand_out(self, event: Event | Delivery | Question) -> None:
        if isinstance(event, Delivery):
            try:
                self.result = ray.get(event.reference[0])
            except Exception as failure:  # the user's object cannot be read here
                self._keep(failure)
            ray.get(self._relay.received.remote())
            return
        if isinstance(event, Question):
            assert self._judge is not None
            verdict = Verdict.STOP
            try:
                verdict = self._judge(event.evaluated)
            except Exception as failure:  # the user's objective
                self._keep(failure)
            self._relay.answer.remote(event.name, verdict)
            return
        self.trainings += isinstance(event, Began)
        self.training = isinstance(event, Began) or (self.training and not isinstance(event, Ended))
        for sink in list(self._sinks):
            try:
                sink.handle(event)
            except Exception as failure:
                self._keep(failure)
                self._sinks.remove(sink)

    def _keep(self, failure: Exception) -> None:
        """Raise the first of them when the block ends."""
        self._failure = self._failure or failure

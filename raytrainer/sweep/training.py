"""A trial's training in a thread of its own, which stands still after every evaluation until it is told what to do."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raytrainer.events import Evaluated
from raytrainer.wire import Verdict


@dataclass(frozen=True)
class Over:
    """The training has ended.

    Args:
        result: what it brought, None where it failed.
        error: why it failed.
    """

    result: Any = None
    error: BaseException | None = None


class Training:
    """Trial's process: one training, from its start to its end or until it is halted.

    Args:
        train: called in the thread with the judge that the training has to ask.
    """

    def __init__(self, train: Callable[[Callable[[Evaluated], Verdict]], Any]) -> None:
        self._train = train
        self._said: queue.Queue[Evaluated | Over] = queue.Queue()
        self._verdicts: queue.Queue[Verdict] = queue.Queue()
        self._halting = False
        self.over: Over | None = None
        self._thread = threading.Thread(target=self._run, name="raytrainer-trial", daemon=True)
        self._thread.start()

    def next(self) -> Evaluated | Over:
        """Wait for the next evaluation, for the checkpoint that was asked for, or for the end."""
        said = self._said.get()
        if isinstance(said, Over):
            self.over = said
        return said

    def answer(self, verdict: Verdict) -> None:
        """Say what the training does that waits after an evaluation."""
        self._verdicts.put(verdict)

    def halt(self, timeout: float) -> bool:
        """End the training at its next evaluation, or at once where it waits.

        Args:
            timeout: seconds to wait for that.

        Returns:
            Whether it has ended.
        """
        self._halting = True
        self.answer(Verdict.STOP)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _judge(self, evaluated: Evaluated) -> Verdict:
        if self._halting:
            return Verdict.STOP
        self._said.put(evaluated)
        return self._verdicts.get()

    def _run(self) -> None:
        try:
            self._said.put(Over(self._train(self._judge)))
        except BaseException as error:  # it is raised again where the result is asked for
            self._said.put(Over(error=error))

"""Controller: what it takes to start a group of workers, part by part."""

from __future__ import annotations

import time
from typing import Any

from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback

from raytrainer.events import Phase


class StartClock(ControllerCallback, WorkerGroupCallback):
    """Tells the driver the seconds until the controller runs, its workers do, and they have joined their process group.

    When the workers run, and when they have imported what they need, :class:`raytrainer.ready.ReadyGroup` says.

    Args:
        relay: the driver's.
        began: when the driver asked for the controller, by the clock of the machine that both are on (time.time).
    """

    def __init__(self, relay: Any, began: float) -> None:
        self._relay, self._since = relay, began
        self._started = False

    def after_controller_start(self, train_run_context: Any) -> None:
        self.tell("controller")

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        # A group that takes the place of another one has not waited since that one began.
        if self._started:
            self._since = time.time()
        self._started = True

    def after_worker_group_start(self, worker_group: Any) -> None:
        self.tell("process group")

    def tell(self, phase: str) -> None:
        """Tell that a phase has ended, and begin the next one."""
        now = time.time()
        self._relay.push.remote(Phase(phase, now - self._since))
        self._since = now

"""Controller: what it takes to start a group of workers, part by part."""

from __future__ import annotations

import time
from typing import Any

from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback

from raytrainer.events import Phase


class StartClock(ControllerCallback, WorkerGroupCallback):
    """Tells the driver the seconds until the controller runs, its workers do, and they have joined their process group.

    Args:
        relay: the driver's.
        began: when the driver asked for the controller, by the clock of the machine that both are on (time.time).
    """

    def __init__(self, relay: Any, began: float) -> None:
        self._relay, self._since = relay, began
        self._started = False

    def after_controller_start(self, train_run_context: Any) -> None:
        self._tell("controller")

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        # A group that takes the place of another one has not waited since that one began.
        if self._started:
            self._since = time.time()
        self._started = True

    def before_init_train_context(self, workers: list[Any]) -> dict[str, list[Any]]:
        self._tell("workers")
        return {}

    def after_worker_group_start(self, worker_group: Any) -> None:
        self._tell("process group")

    def _tell(self, phase: str) -> None:
        now = time.time()
        self._relay.push.remote(Phase(phase, now - self._since))
        self._since = now

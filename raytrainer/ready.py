"""Controller: Ray Train's controller and workers, in processes that Ray has ready, where it has some."""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any, ClassVar

import ray
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.worker_group import WorkerGroup

from raytrainer.start_clock import StartClock

# What every worker needs, and what takes it seconds to import.
_HEAVY = ("torch", "transformers.trainer", "raytrainer.recovery", "raytrainer.reporting")


class ReadyGroup(WorkerGroup):
    """Workers without a runtime environment of Ray Train's: what is in it they are told once they run.

    An environment of its own, be it only some variables, has Ray start a process for each worker; the idle ones that
    every node keeps have imported Ray.

    Attributes:
        environment: variables that the workers get beside Ray Train's settings.
    """

    environment: ClassVar[dict[str, str]] = {}

    @staticmethod
    def _get_worker_runtime_env(custom_runtime_env: Any) -> dict[str, Any]:
        return dict(custom_runtime_env)

    def _create_workers(self, *args: Any, **kwargs: Any) -> Any:
        workers = super()._create_workers(*args, **kwargs)
        self._tell("workers")
        variables = {**get_env_vars_to_propagate(), **self.environment}
        try:
            prepared: list[Any] = [worker.execute_async(prepare, variables) for worker in workers]
            ray.get(prepared)
        except ray.exceptions.RayActorError as error:
            for worker in workers:
                ray.kill(worker.actor)
            raise WorkerGroupStartupFailedError("A worker died while it imported what it needs.") from error
        self._tell("imports")
        return workers

    def _tell(self, phase: str) -> None:
        for callback in self._callbacks:
            if isinstance(callback, StartClock):
                callback.tell(phase)


class GroupController(TrainController):
    """Ray Train's controller, with its settings as an argument, for the same reason.

    Args:
        settings: Ray Train's, as environment variables.
        environment: variables that the workers get.
        parts: what Ray Train's is given.
    """

    def __init__(self, settings: dict[str, str], environment: dict[str, str], **parts: Any) -> None:
        os.environ.update(settings)
        group: Any = type("ReadyGroup", (ReadyGroup,), {"environment": environment})
        self.worker_group_cls = group
        super().__init__(**parts)


def prepare(variables: dict[str, str]) -> None:
    """Worker: set environment variables, and import what every order needs.

    Args:
        variables: name to value; some are read when a module is imported, and never again.
    """
    os.environ.update(variables)
    for name in _HEAVY:
        # Who needs it imports it again, and says what is wrong.
        with contextlib.suppress(Exception):
            importlib.import_module(name)

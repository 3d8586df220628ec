"""Controller: Ray Train's controller and workers, in processes that Ray has ready, where it has some."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
from typing import Any, ClassVar

from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.worker_group import WorkerGroup

# What every worker needs, and what takes it seconds to import.
_HEAVY = ("torch", "transformers.trainer", "raytrainer.recovery", "raytrainer.reporting")

_importing: threading.Thread | None = None


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
        variables = {**get_env_vars_to_propagate(), **self.environment}
        for worker in workers:
            # An actor does what it is told in order: before anything of Ray Train's own.
            worker.execute_async(prepare, variables)
        return workers


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
    """Worker: set environment variables, and begin to import what the first order needs, while the group assembles.

    Args:
        variables: name to value; what is imported may read them once.
    """
    global _importing
    os.environ.update(variables)
    _importing = threading.Thread(target=_import, name="raytrainer-imports", daemon=True)
    _importing.start()


def prepared() -> None:
    """Worker: return when the imports are done."""
    if _importing is not None:
        _importing.join()


def _import() -> None:
    for name in _HEAVY:
        # Who needs it imports it again, and says what is wrong.
        with contextlib.suppress(Exception):
            importlib.import_module(name)

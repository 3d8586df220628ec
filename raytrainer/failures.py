"""What ended a run, from Ray Train's report of its workers: the user's own exception, or that a worker is gone."""

from __future__ import annotations

from typing import NoReturn

import ray
from ray.train.v2._internal.exceptions import RayTrainError
from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from raytrainer.errors import ScriptFailed, TrainingFailed, WorkerTraceback


class FailurePolicy(DefaultFailurePolicy):
    """Controller: Ray Train's own policy, but for a script that left with an exit status: it wanted to end."""

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        failures = getattr(training_failed_error, "worker_failures", {}).values()
        errors = [getattr(error, "_base_exc", error) for error in failures]
        if any(isinstance(error, ScriptFailed) and error.status is not None for error in errors):
            return FailureDecision.RAISE
        return super().make_decision(training_failed_error)


def raise_as_itself(failure: TrainingFailedError) -> NoReturn:
    """Raise what the user's code raised, with the worker's traceback as its cause."""
    if not isinstance(failure, WorkerGroupError) or not failure.worker_failures:
        raise TrainingFailed(str(failure)) from failure
    rank, error = min(failure.worker_failures.items(), key=lambda item: (_is_echo(item[1]), item[0]))
    error = getattr(error, "_base_exc", error)
    if isinstance(error, ray.exceptions.RayError | RayTrainError):
        # Ray's text is a page about actors; the first line says what happened.
        raise TrainingFailed(f"the worker of rank {rank} is gone: {str(error).strip().splitlines()[0]}") from failure
    if isinstance(error, ScriptFailed):
        raise error
    text = error.__dict__.pop("_raytrainer_traceback", None) or str(failure)
    raise error from WorkerTraceback(rank, text)


def _is_echo(error: BaseException) -> bool:
    """Tell whether a rank failed only because another one did: its peer was gone in a collective."""
    text = str(getattr(error, "_base_exc", error)).lower()
    return any(sign in text for sign in ("connection closed by peer", "connection reset by peer", "nccl", "gloo"))

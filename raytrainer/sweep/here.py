"""A run of one worker, in this very process: no process group, no controller, no actor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ray.train.v2._internal.execution.train_fn_utils import LocalTrainFnUtils, set_train_fn_utils

from raytrainer.cluster import default_scaling
from raytrainer.events import Evaluated, Event, Saved
from raytrainer.job import Job
from raytrainer.order import Result
from raytrainer.sinks import Sink
from raytrainer.where import here
from raytrainer.wire import Verdict, Wish
from raytrainer.worker import carry_out


def run_here(job: Job) -> Result:
    """Run a job of one worker in this thread, as :func:`raytrainer.run.fit` would on a worker.

    Args:
        job: what to run.

    Returns:
        What it brought.

    Raises:
        Exception: what went wrong, as itself.
    """
    # What ray.train's functions do where there is one process, as with ScalingConfig(num_workers=0).
    set_train_fn_utils(LocalTrainFnUtils(experiment_name=str(job.run.name)))
    order = job.order(job.scaling or default_scaling())
    if order.recovery is not None:
        order = dataclasses.replace(order, recovery=dataclasses.replace(order.recovery, preemptions=False))
    error: BaseException | None = None
    try:
        with here():
            return carry_out(lambda: order, _HereWire(job.sinks, job.judge), rank=0)
    except BaseException as failure:
        error = failure
        raise
    finally:
        for sink in job.sinks:
            sink.close(error)


class _HereWire:
    """The wire of a rank that runs where its driver is."""

    def __init__(self, sinks: list[Sink], judge: Callable[[Evaluated], Verdict] | None) -> None:
        self._sinks, self._judge = sinks, judge

    def push(self, event: Event) -> None:
        for sink in self._sinks:
            sink.handle(event)

    def settle(self) -> None:
        pass

    def saved(self) -> dict[str, Saved]:
        return {}

    def wish(self) -> Wish:
        return Wish.GO_ON

    def forget_wish(self) -> None:
        pass

    def judge(self, evaluated: Evaluated) -> Verdict:
        assert self._judge is not None
        return self._judge(evaluated)

    def hand_in(self, key: str, part: Any) -> None:
        raise AssertionError("there is no other rank")

    def handed_in(self, key: str, count: int) -> list[Any]:
        return []

    def share(self, key: str, value: Any, rank: int, count: int) -> Any:
        return value

    def deliver(self, result: Any) -> None:
        raise AssertionError("the result is returned")

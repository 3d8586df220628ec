"""fit(job): the one place where a job becomes a Ray Train run."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field

import ray
from ray.train.v2.api.exceptions import TrainingFailedError

from raytrainer import cluster
from raytrainer.errors import Interrupted, TrainingFailed
from raytrainer.events import Event, Phase
from raytrainer.failures import raise_as_itself
from raytrainer.group import Group, Plan
from raytrainer.job import Work
from raytrainer.listener import Listener
from raytrainer.order import Result
from raytrainer.ray_train import free_slots_of, signals_ask
from raytrainer.sinks import Sink
from raytrainer.staying import keep, keeps, open_group
from raytrainer.wire import Wish


@dataclass(frozen=True)
class Outcome(Result):
    """What a job brought: rank 0's result, which is no error, and how long it took.

    Args:
        phases: seconds by phase: ``controller``, ``workers``, ``process group`` where they had to be started;
            ``imports``, the user's code's among them; ``trainer`` (model and data); ``contract``; and ``total``, from
            the call to the end.
    """

    phases: dict[str, float] = field(default_factory=dict)


def fit(job: Work, tidied: bool = False) -> Outcome:
    """Run a job on Ray Train workers and wait for it.

    Args:
        job: what to run.
        tidied: whether it is one of several that share a cluster: it waits for its turn, and somebody else gives back
            what its workers had, should this process be killed.

    Returns:
        What it brought.

    Raises:
        UserError: a mistake that was found before the first step.
        TrainingFailed: a worker died, or Ray Train gave up.
        Interrupted: after Ctrl-C or SIGTERM, when the workers are stopped.
        Exception: what the user's code raised on a worker, as itself, with a WorkerTraceback as its cause.
    """
    timer = _Timer()
    sinks: list[Sink] = [timer, *job.sinks]
    try:
        outcome = _fit(job, timer, sinks, tidied)
    except BaseException as error:
        _close(sinks, error)
        raise
    _close(sinks, None)
    return outcome


def _fit(job: Work, timer: _Timer, sinks: list[Sink], tidied: bool) -> Outcome:
    scaling = job.scaling or cluster.default_scaling()
    sizes = job.sizes(scaling)
    missing = cluster.check_supply(scaling, sizes[0])
    waits = tidied or missing is not None
    plan = Plan(job.loop, scaling, sizes, job.run, job.preparation, job.recoverable, tidied, waits)
    stays = job.stays and plan.lasting and keeps()
    group = open_group(plan)
    try:
        listener = Listener(group.relay, sinks, job.judge)

        def stop(signal: str) -> bool:
            if not job.recoverable or not listener.training:
                return False
            now = " (once more: stops now)" if signal == "Ctrl-C" else ""
            listener.say(f"{signal}: saving a checkpoint, then stopping{now}", warning=True)
            group.relay.ask.remote(Wish.STOP)
            return True

        with listener, signals_ask(stop):
            if missing is not None and not tidied:
                listener.say(missing, warning=True)
            group.post(job.order(scaling), last=not stays)
            _attend(job, group, listener)
    except TrainingFailedError as failure:
        group.abort()
        raise_as_itself(failure)
    except BaseException:
        group.abort()
        raise
    result: Result = listener.result
    if stays and group.starts == 1 and result.error is None and result.stopped is None:
        group.note_sources(result.sources)
        keep(group)
    else:
        group.end()
    if result.error is not None:
        raise result.error
    if result.stopped is not None:
        raise Interrupted(result.stopped)
    # A copy: what Ray hands out is a read-only view of the object store.
    value = copy.deepcopy(result.value)
    return Outcome(**{**vars(result), "value": value}, phases=timer.phases())


def _attend(job: Work, group: Group, listener: Listener) -> None:
    """Wait for a job's end, with another controller where the first one is killed."""
    limit = job.run.failure_config.controller_failure_limit  # type: ignore[union-attr]  # set by RunConfig itself
    deaths = seen = 0
    while True:
        try:
            group.wait()
            return
        except ray.exceptions.ActorDiedError as death:
            deaths += 1
            free_slots_of(death.actor_id)
            # One that dies before training has begun would die again.
            if not job.recoverable or listener.trainings == seen or 0 <= limit < deaths:
                raise TrainingFailed(f"Ray Train's controller is gone: {str(death).strip().splitlines()[0]}") from death
            seen = listener.trainings
            listener.say("Ray Train's controller is gone: the run goes on with a new one", warning=True)
            group.start()


def _close(sinks: list[Sink], error: BaseException | None) -> None:
    for sink in sinks:
        sink.close(error)


class _Timer:
    """Driver: what each phase took. A sink."""

    def __init__(self) -> None:
        self._phases: dict[str, float] = {}
        self._began = time.monotonic()

    def handle(self, event: Event) -> None:
        if isinstance(event, Phase):
            # Rank 0 imports the user's code after what every worker needs.
            self._phases[event.name] = self._phases.get(event.name, 0.0) + event.seconds

    def close(self, error: BaseException | None) -> None:
        pass

    def phases(self) -> dict[str, float]:
        return {**self._phases, "total": time.monotonic() - self._began}

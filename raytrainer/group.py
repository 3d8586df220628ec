"""Driver: a group of workers, which carries out one order after another."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import ray
from ray import cloudpickle
from ray.train.v2.api.config import RunConfig, ScalingConfig

from raytrainer.backend import ProcessGroupConfig
from raytrainer.early import EarlyWorkers, Preparation, early_workers
from raytrainer.errors import TrainingFailed
from raytrainer.orders import own_sources
from raytrainer.ray_train import GroupTrainer, ray_train_settings
from raytrainer.relay import relay_here
from raytrainer.wire import Post

_END_S = 30.0


@dataclass(frozen=True)
class Plan:
    """What a group of workers is, whatever it is told to do.

    Args:
        loop: what Ray Train runs on every worker.
        scaling: Ray Train's scaling configuration.
        sizes: the numbers of workers that the group may have, the smallest first.
        run: Ray Train's run configuration.
        preparation: what the workers do before anything else.
        recoverable: whether its size may change while it runs.
        tidied: whether somebody else gives back what its workers had, should this process be killed.
        waits: whether it may take long until it has its places: others have them, or an autoscaler brings them.
    """

    loop: Callable[[dict[str, Any]], None]
    scaling: ScalingConfig
    sizes: Sequence[int]
    run: RunConfig
    preparation: Preparation
    recoverable: bool
    tidied: bool
    waits: bool

    @property
    def lasting(self) -> bool:
        """Whether such a group can carry out several orders: of one size, and watched by nobody else."""
        return not (self.tidied or self.scaling.elasticity_enabled or self.scaling.use_tpu or self.run.callbacks)

    @property
    def at_once(self) -> bool:
        """Whether its workers can be started before there is a controller, which would decide on them."""
        return self.lasting and not self.waits

    def serves(self, other: Plan) -> bool:
        """Tell whether a group of this plan can carry out what another plan was made for."""
        # Neither its name nor its folder: what a run keeps, the workers write themselves.
        settings = [each.name for each in fields(RunConfig) if each.name not in ("name", "storage_path")]
        same = not other.tidied and all(getattr(self.run, name) == getattr(other.run, name) for name in settings)
        return same and all(getattr(self, name) == getattr(other, name) for name in ("loop", "scaling", "preparation"))


class Group:
    """Workers of one Ray Train run.

    Args:
        plan: what they are.

    Attributes:
        relay: the actor that all of them talk to.
        starts: how often the workers began with the last order; more than once after a failure.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._early: EarlyWorkers | None = None
        if plan.at_once:
            with self._settings():
                self._early = early_workers(plan.scaling, plan.run, plan.preparation)
        self.relay = relay_here()
        self.starts = 0
        self._trainer: GroupTrainer | None = None
        self._number = -1
        self._order: ray.ObjectRef[bytes] | None = None
        self._done: ray.ObjectRef[int] | None = None
        self._closed = self.relay.closed.remote()
        self._began = time.time()
        self._sources: set[str] = set()
        self._cluster = _cluster()

    def post(self, order: object, last: bool) -> None:
        """Give the workers an order; they are started where they are not there yet.

        Args:
            order: what they shall do; pickles.
            last: whether they leave after it.
        """
        self._number += 1
        self._order = ray.put(cloudpickle.dumps(order))
        path = [os.path.abspath(folder) for folder in sys.path]
        self.relay.post.remote(Post(self._number, [self._order], path, last))
        if self._trainer is None:
            self.start()
        self._done = None if last else self.relay.idle.remote(self._number, self._plan.scaling.max_workers)

    def start(self) -> None:
        """Start the workers, or start them anew after their controller has died; they begin with the last order."""
        plan, scaling = self._plan, self._plan.scaling
        if self._trainer is not None:
            self._dismiss()
        with self._settings():
            trainer = GroupTrainer(
                plan.loop,
                # Ray Train hands this configuration to each of its own actors: nothing of the user's is in it.
                train_loop_config={"relay": self.relay},
                backend_config=ProcessGroupConfig(
                    "tpu_dist" if scaling.use_tpu else "nccl" if scaling.use_gpu else "gloo"
                ),
                scaling_config=scaling,
                run_config=cast("Any", plan.run),
                relay=self.relay,
                preparation=plan.preparation,
                early=self._early,
                sizes=list(plan.sizes),
                resizes=self.relay if plan.recoverable else None,
                tidied=plan.tidied,
            )
            trainer.start()
        self._trainer = trainer

    def wait(self) -> None:
        """Wait until the order has been carried out on every rank.

        Raises:
            TrainingFailedError: what ended the run.
            ActorDiedError: the controller is gone.
            TrainingFailed: the relay is gone, and no worker can be heard, however often it is started.
        """
        assert self._trainer is not None
        (first,), _ = ray.wait([self._trainer.running, *self._awaited()], num_returns=1)
        if first == self._trainer.running:
            self._trainer.result()
            return
        try:
            self.starts = ray.get(first)
        except ray.exceptions.RayActorError as death:
            why = str(death).strip().splitlines()[0]
            raise TrainingFailed(f"the process that the workers and this program meet in is gone: {why}") from death

    def end(self) -> None:
        """Let the workers go that have nothing to do, and wait until what they had is free."""
        if self._lives():
            try:
                ray.get(self.relay.close.remote())
                ray.get(self._trainer.running, timeout=_END_S)  # type: ignore[union-attr]  # it lives
            except ray.exceptions.RayError:
                self.abort()
        self._forget()

    def abort(self) -> None:
        """End the workers now, whatever they do."""
        if self._lives():
            self._trainer.abort(_END_S)  # type: ignore[union-attr]  # it lives
        self._forget()

    def _settings(self) -> contextlib.AbstractContextManager[None]:
        return ray_train_settings(self._plan.scaling, self._plan.waits)

    def _forget(self) -> None:
        if _cluster() == self._cluster:
            # Each call that a killed actor has not answered, Ray reports to the user as failed and about to be retried.
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get([self.relay.close.remote(), *self._awaited()], timeout=_END_S)
            ray.kill(self.relay)
            self._dismiss()
        self._trainer = None

    def _awaited(self) -> list[Any]:
        """Return the calls of the relay that this program waits for."""
        return [self._closed, *([self._done] if self._done is not None else [])]

    def _dismiss(self) -> None:
        if self._early is not None:
            self._early.dismiss()
        self._early = None

    def note_sources(self, files: Sequence[str]) -> None:
        """Take note of the user's modules that the workers have loaded."""
        self._sources.update(files)

    def can_serve(self, plan: Plan) -> bool:
        """Tell whether its workers wait, are what a plan asks for, and have loaded the user's modules as they are."""
        return self._lives() and self._plan.serves(plan) and not self._outdated()

    def _lives(self) -> bool:
        if self._trainer is None or _cluster() != self._cluster:
            return False
        ended, _ = ray.wait([self._trainer.running], timeout=0)
        return not ended

    def _outdated(self) -> bool:
        for file in {*self._sources, *own_sources()}:
            with contextlib.suppress(OSError):  # on the workers' machine only
                if os.stat(file).st_mtime > self._began:
                    return True
        return False


def _cluster() -> tuple[str, str] | None:
    """Name what this program is connected to: what it had there is gone when it leaves."""
    if not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    return context.gcs_address, context.get_job_id()

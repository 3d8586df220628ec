"""Controller: Ray Train's controller and workers, in processes that Ray has ready, where it has some."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import ray
from ray._private.ray_constants import GPU
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.worker_group import DefaultPlacementGroupHandle, Worker, WorkerGroup

from raytrainer.early import EarlyWorkers, Preparation, prepare
from raytrainer.meeting import meet_at
from raytrainer.start_clock import StartClock


class ReadyGroup(WorkerGroup):
    """Workers without a runtime environment of Ray Train's: what is in it they are told once they run.

    An environment of its own, be it only some variables, has Ray start a process for each worker; the idle ones that
    every node keeps have imported Ray.

    Attributes:
        preparation: what the workers do before anything else.
        early: the workers that the driver has started already; none is left after the first group.
    """

    preparation: ClassVar[Preparation] = Preparation({})
    early: ClassVar[list[EarlyWorkers]] = []
    _taken: EarlyWorkers | None = None

    @staticmethod
    def _get_worker_runtime_env(custom_runtime_env: Any) -> dict[str, Any]:
        return dict(custom_runtime_env)

    def _create_placement_group(self, *args: Any, **kwargs: Any) -> Any:
        if not self.early:
            return super()._create_placement_group(*args, **kwargs)
        self._taken = self.early.pop()
        return DefaultPlacementGroupHandle(self._taken.places)

    def _create_workers(self, *args: Any, **kwargs: Any) -> Any:
        taken, self._taken = self._taken, None
        if taken is not None:
            _wait_for(taken.actors, taken.prepared)
            self._tell("imports")
            _, _, resources = args
            found = zip(taken.actors, ray.get([actor.get_metadata.remote() for actor in taken.actors]), strict=True)
            workers = [
                Worker(actor, metadata, resources, placement_group_bundle_index=number)
                for number, (actor, metadata) in enumerate(found)
            ]
            return WorkerGroup._assign_worker_ranks(workers, replica_group_size=kwargs.get("replica_group_size"))
        workers = super()._create_workers(*args, **kwargs)
        self._tell("workers")
        preparation = self.preparation.with_settings()
        known = [worker.metadata for worker in workers] if workers[0].resources.get(GPU) else []
        _wait_for(
            [worker.actor for worker in workers],
            [worker.execute_async(prepare, preparation, rank, *known) for rank, worker in enumerate(workers)],
        )
        self._tell("imports")
        return workers

    def _tell(self, phase: str) -> None:
        for callback in self._callbacks:
            if isinstance(callback, StartClock):
                callback.tell(phase)


def _wait_for(actors: list[Any], prepared: list[Any]) -> None:
    try:
        ray.get(prepared)
    except ray.exceptions.RayActorError as error:
        for actor in actors:
            ray.kill(actor)
        raise WorkerGroupStartupFailedError("A worker died while it imported what it needs.") from error


class GroupController(TrainController):
    """Ray Train's controller, with its settings as an argument, for the same reason.

    Args:
        settings: Ray Train's, as environment variables.
        relay: where its workers wait for each other.
        preparation: what the workers do before anything else.
        early: the workers that the driver has started already; None where it has not.
        parts: what Ray Train's is given.
    """

    def __init__(
        self,
        settings: dict[str, str],
        relay: Any,
        preparation: Preparation,
        early: EarlyWorkers | None,
        **parts: Any,
    ) -> None:
        os.environ.update(settings)
        # Whether a node goes away, all ranks ask Ray Train together, about once a second.
        if settings.get("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER") == "0":
            meet_at(relay)
        found = {"preparation": preparation, "early": [] if early is None else [early]}
        group: Any = type("ReadyGroup", (ReadyGroup,), found)
        self.worker_group_cls = group
        super().__init__(**parts)

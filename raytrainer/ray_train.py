"""Ray Train as it is used here: its settings, its trainer, and Ctrl-C given back when it is done."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import ray
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]  # made by protobuf
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.config import FailureConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.placement_group import PlacementGroup, remove_placement_group

from raytrainer.environment import environment
from raytrainer.failures import FailurePolicy
from raytrainer.resizing import SharingPolicy

# Ray Train's own settings, unless the user set them.
RAY_TRAIN_SETTINGS = {
    # It looks at its workers every 2 s by default, and a report stands still until then.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    # It moves workers into a folder of its own, where the user's relative paths mean nothing.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # It replaces print, and whoever redirects sys.stdout gets nothing: dill does, where datasets makes fingerprints.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}


class GroupTrainer(DataParallelTrainer):
    """Ray Train's trainer, which asks before Ctrl-C aborts, and does without a dashboard where none answers.

    Args:
        stop: called on the first Ctrl-C; returns whether the workers will stop by themselves.
        sizes: the numbers of workers that the group may have.
        resizes: asked for a checkpoint before the group's size changes; None where it may not change while it runs.
        tidied: whether somebody else gives back what the workers had, should this process and the controller die.
        settings: what Ray Train's trainer is given.
    """

    def __init__(
        self, *args: Any, stop: Callable[[], bool], sizes: list[int], resizes: Any, tidied: bool, **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self._stop, self._sizes, self._resizes, self._tidied = stop, sizes, resizes, tidied

    def _register_sigint_handler(self, controller: Any) -> None:
        super()._register_sigint_handler(controller)
        if threading.current_thread() is not threading.main_thread():
            return
        abort: Any = signal.getsignal(signal.SIGINT)
        asked = False

        def interrupt(number: int, frame: Any) -> None:
            nonlocal asked
            if asked or not self._stop():
                abort(number, frame)
            asked = True

        signal.signal(signal.SIGINT, interrupt)

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        scaling = cast("ScalingConfig", self.scaling_config)
        if scaling.elasticity_enabled:
            parts["scaling_policy"] = SharingPolicy(scaling, self._sizes, self._resizes)
        parts["failure_policy"] = FailurePolicy(cast("FailureConfig", self.run_config.failure_config))
        return super()._initialize_and_run_controller(**parts)

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        if ray._private.worker.get_dashboard_url() and not self._tidied:
            return callbacks
        return [callback for callback in callbacks if not isinstance(callback, PlacementGroupCleanerCallback)]


def free_slots_of(controller: str | None) -> None:
    """Remove the placement groups of a controller that died: Ray keeps them for as long as the program is connected.

    Args:
        controller: the actor's id, hexadecimal.
    """
    _remove_groups(lambda group: group.creator_actor_id.hex() == controller)


def free_slots_of_the_dead() -> None:
    """Remove the placement groups of every actor that died, as the controllers of killed trials."""
    # Of a group that a driver made, Ray says the same, and names no actor.
    _remove_groups(lambda group: group.creator_actor_dead and bool(group.creator_actor_id.strip(b"\xff")))


def _remove_groups(lost: Callable[[Any], bool]) -> None:
    groups = ray._private.state.state._connect_and_get_accessor().get_placement_group_table()
    for group in map(PlacementGroupTableData.FromString, groups):
        if lost(group) and group.state != PlacementGroupTableData.REMOVED:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))


def ray_train_settings(scaling: ScalingConfig, waits: bool) -> contextlib.AbstractContextManager[None]:
    """Set Ray Train's settings for a run inside the block, those excepted that the user set.

    Args:
        scaling: the run's.
        waits: whether others of its kind may have what its workers need, until they are done.
    """
    settings = dict(RAY_TRAIN_SETTINGS)
    if scaling.elasticity_enabled:
        # It waits 60 s for the nodes that it decided on, and Ray takes up to 20 s to see that a node has died.
        settings["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "10"
    elif waits:
        settings["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "1000000"
    if not watches_preemptions(scaling):
        settings["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    return environment({name: value for name, value in settings.items() if name not in os.environ})


def watches_preemptions(scaling: ScalingConfig) -> bool:
    """Tell whether Ray Train watches for notice that a node goes away; with an only node the controller goes too."""
    default = "1" if scaling.elasticity_enabled or len(ray.nodes()) > 1 else "0"
    return os.environ.get("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", default).lower() in ("1", "true")


@contextlib.contextmanager
def own_interrupts() -> Iterator[None]:
    """Give Ctrl-C back to the program when the run is over: Ray Train takes it and never returns it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

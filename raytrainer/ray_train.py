"""Ray Train as it is used here: its settings, its trainer, and what Ctrl-C and SIGTERM do meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import ray
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]  # made by protobuf
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2.api.config import FailureConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.placement_group import PlacementGroup, remove_placement_group

from raytrainer.autoscaler import autoscaler
from raytrainer.early import EarlyWorkers, Preparation
from raytrainer.environment import environment
from raytrainer.errors import Interrupted
from raytrainer.failures import FailurePolicy
from raytrainer.ready import GroupController
from raytrainer.resizing import SharingPolicy, UnaskingPolicy
from raytrainer.start_clock import StartClock

# Ray Train's own settings, unless the user set them.
RAY_TRAIN_SETTINGS = {
    # It looks at its workers every 2 s by default, and a report stands still until then.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    # It moves workers into a folder of its own, where the user's relative paths mean nothing.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # It replaces print, and whoever redirects sys.stdout gets nothing: dill does, where datasets makes fingerprints.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}

_SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class GroupTrainer(DataParallelTrainer):
    """Ray Train's trainer, which does not wait for its end, and does without a dashboard where none answers.

    Args:
        relay: told what starting takes, and where the workers wait for each other.
        preparation: what the workers do before anything else.
        early: the workers, where they have been started already.
        sizes: the numbers of workers that the group may have.
        resizes: asked for a checkpoint before the group's size changes; None where it may not change while it runs.
        tidied: whether somebody else gives back what the workers had, should this process and the controller die.
        settings: what Ray Train's trainer is given.

    Attributes:
        running: resolves when the run has ended.
    """

    running: ray.ObjectRef[None]

    def __init__(
        self,
        *args: Any,
        relay: Any,
        preparation: Preparation,
        early: EarlyWorkers | None,
        sizes: list[int],
        resizes: Any,
        tidied: bool,
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self._relay, self._preparation, self._early = relay, preparation, early
        self._sizes, self._resizes, self._tidied = sizes, resizes, tidied
        self._controller: Any = None

    def start(self) -> None:
        """Start the controller, which starts the workers."""
        self.fit()

    def result(self) -> None:
        """Wait for the end of the run.

        Raises:
            TrainingFailedError: what ended it.
            ActorDiedError: the controller is gone.
        """
        ray.get(self.running)
        if (error := ray.get(self._controller.get_result.remote()).error) is not None:
            raise error

    def abort(self, patience_s: float) -> None:
        """End the run now, whatever its workers do."""
        # The controller leaves without an answer.
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self._controller.abort.remote(), timeout=patience_s)

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        scaling = cast("ScalingConfig", self.scaling_config)
        if scaling.elasticity_enabled:
            parts["scaling_policy"] = SharingPolicy(scaling, self._sizes, self._resizes)
        elif autoscaler() is None:
            parts["scaling_policy"] = UnaskingPolicy(scaling)
        parts["failure_policy"] = FailurePolicy(cast("FailureConfig", self.run_config.failure_config))
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
        ray_trains = {"RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0", **get_env_vars_to_propagate()}
        controller: Any = ray.remote(num_cpus=0, label_selector=here)(GroupController)
        self._controller = controller.remote(ray_trains, self._relay, self._preparation, self._early, **parts)
        self.running = self._controller.run.remote()
        return SimpleNamespace(error=None)

    def _create_default_callbacks(self) -> list[Any]:
        # Ray Data's starts an actor and imports all of Ray Data on every worker, for datasets that are never given.
        unwanted: tuple[type, ...] = (DatasetsCallback,)
        if not (ray._private.worker.get_dashboard_url() and not self._tidied):
            unwanted += (PlacementGroupCleanerCallback,)
        wanted = [callback for callback in super()._create_default_callbacks() if not isinstance(callback, unwanted)]
        return [*wanted, StartClock(self._relay, time.time())]


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
        waits: whether it may take long until its workers have their places.
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
    if (asked := os.environ.get("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER")) is not None:
        return asked.lower() in ("1", "true")
    return scaling.elasticity_enabled or len(ray.nodes()) > 1 or autoscaler() is not None


@contextlib.contextmanager
def signals_ask(stop: Callable[[str], bool]) -> Iterator[None]:
    """Ask before Ctrl-C or SIGTERM raises inside the block; afterwards they are the program's own again.

    SIGTERM is how Kubernetes, Slurm, docker and systemd take a machine back: SIGKILL follows when they have waited long
    enough, so a second SIGTERM, which some send to a whole process group, hurries nothing. A second Ctrl-C does.

    Args:
        stop: called with the name of the first of them; returns whether the workers will stop by themselves.

    Raises:
        Interrupted: they will not, or Ctrl-C was pressed after it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def interrupt(number: int, frame: Any) -> None:
        nonlocal asked
        if asked and number == signal.SIGTERM:
            return
        if asked or not stop(_SIGNALS[signal.Signals(number)]):
            raise Interrupted
        asked = True

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        # Where a signal's handler raises while Ray waits in C++, Ray raises one of its own.
        raise Interrupted from None
    finally:
        for number, handler in before.items():
            # One that was not set from Python cannot be set again from there.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

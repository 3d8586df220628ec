"""Workers that the driver starts before it starts their controller, and that import what they need meanwhile."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
from dataclasses import dataclass
from typing import Any

import ray
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.execution.worker_group.worker import RayTrainWorker
from ray.train.v2._internal.util import bundle_to_remote_args
from ray.train.v2.api.config import RunConfig, ScalingConfig
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raytrainer.importing import collecting_paused

# What every worker needs, and what takes it seconds to import.
_HEAVY = ("torch", "transformers.trainer", "raytrainer.recovery", "raytrainer.reporting")


@dataclass(frozen=True)
class EarlyWorkers:
    """Actors that the controller's first group of workers consists of.

    Ray Train's controller starts its workers itself, a second or more after it was asked for. These are the same
    actors in the same kind of placement group, but this process's: where the controller is killed, they are not.

    Args:
        places: their placement group, which may still wait for its resources.
        actors: in the order of its bundles.
        prepared: for each of them, ready when it has imported what it needs.
    """

    places: PlacementGroup
    actors: list[Any]
    prepared: list[Any]

    def dismiss(self) -> None:
        """End them, and free their places."""
        with contextlib.suppress(ray.exceptions.RayError, ValueError):
            remove_placement_group(self.places)


def early_workers(scaling: ScalingConfig, run: RunConfig, variables: dict[str, str]) -> EarlyWorkers:
    """Start the workers of a run, as far as there is room for them now; nothing is waited for.

    Args:
        scaling: what they are; of one size, and no TPU slices.
        run: with their runtime environment.
        variables: that they get before they import anything, beside Ray Train's settings.
    """
    each, count = scaling._resources_per_worker_not_none, scaling.max_workers
    places = placement_group(
        [each] * count,
        strategy=scaling.placement_strategy,
        bundle_label_selector=scaling._label_selector_per_worker(count),
    )
    kind: Any = ray.remote(runtime_env=dict(run.worker_runtime_env or {}), **bundle_to_remote_args(each))(
        RayTrainWorker
    )
    actors = [
        kind.options(scheduling_strategy=PlacementGroupSchedulingStrategy(places, number)).remote()
        for number in range(count)
    ]
    variables = {**get_env_vars_to_propagate(), **variables}
    prepared = [actor.execute.options(name="execute.prepare").remote(prepare, variables) for actor in actors]
    return EarlyWorkers(places, actors, prepared)


def prepare(variables: dict[str, str]) -> None:
    """Worker: set environment variables, and import what every order needs.

    Args:
        variables: name to value; some are read when a module is imported, and never again.
    """
    os.environ.update(variables)
    with collecting_paused():
        for name in _HEAVY:
            # Who needs it imports it again, and says what is wrong.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    # Nor later: accelerate searches the whole process when a training begins.
    gc.freeze()

"""Workers that the driver starts before it starts their controller, and that import what they need meanwhile."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray._common.utils import env_bool
from ray._private.accelerators.amd_gpu import HIP_VISIBLE_DEVICES_ENV_VAR
from ray._private.accelerators.nvidia_gpu import CUDA_VISIBLE_DEVICES_ENV_VAR
from ray._private.ray_constants import GPU
from ray.train.constants import ENABLE_SHARE_CUDA_VISIBLE_DEVICES_ENV
from ray.train.v2._internal.callbacks.accelerators import _get_visible_accelerator_ids_per_worker
from ray.train.v2._internal.constants import get_env_vars_to_propagate
from ray.train.v2._internal.execution.worker_group.worker import ActorMetadata, RayTrainWorker
from ray.train.v2._internal.util import bundle_to_remote_args
from ray.train.v2.api.config import RunConfig, ScalingConfig
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raytrainer.importing import collecting_paused


@dataclass(frozen=True)
class Preparation:
    """What a worker does before anything else.

    Args:
        variables: environment variables that it sets; some are read when a module is imported, and never again.
        imports: modules; by default what every order needs, and what takes seconds.
    """

    variables: dict[str, str]
    imports: tuple[str, ...] = ("torch", "transformers.trainer", "raytrainer.recovery", "raytrainer.reporting")

    def with_settings(self) -> Preparation:
        """Return it with Ray Train's settings, as far as the user set some for this process."""
        return replace(self, variables={**get_env_vars_to_propagate(), **self.variables})


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


def early_workers(scaling: ScalingConfig, run: RunConfig, preparation: Preparation) -> EarlyWorkers:
    """Start the workers of a run, as far as there is room for them now; nothing is waited for.

    Args:
        scaling: what they are; of one size, and no TPU slices.
        run: with their runtime environment.
        preparation: what they do before anything else.
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
    preparation = preparation.with_settings()
    known = [actor.get_metadata.remote() for actor in actors] if each.get(GPU) else []
    prepared = [
        actor.execute.options(name="execute.prepare").remote(prepare, preparation, rank, *known)
        for rank, actor in enumerate(actors)
    ]
    return EarlyWorkers(places, actors, prepared)


def prepare(preparation: Preparation, rank: int, *group: ActorMetadata) -> None:
    """Worker: set environment variables, and import what every order needs.

    Args:
        preparation: them, and what to import.
        rank: the worker's place in its group.
        group: what Ray Train knows of each of its workers; nothing where they have no GPUs.
    """
    os.environ.update(preparation.variables)
    if group and env_bool(ENABLE_SHARE_CUDA_VISIBLE_DEVICES_ENV, True):
        _see_the_gpus_of(list(group), rank)
    with collecting_paused():
        for name in preparation.imports:
            # Who needs it imports it again, and says what is wrong.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    # Nor later: accelerate searches the whole process when a training begins.
    gc.freeze()


def _see_the_gpus_of(group: list[ActorMetadata], rank: int) -> None:
    """Show this process the GPUs of all workers on its node, as Ray Train does later.

    An import may initialize CUDA, as transformers' does where flash-attn is installed; what it sees then, the process
    sees for ever. And Ray Train leaves ROCm's variable as it was, which torch prefers.
    """
    visible = _get_visible_accelerator_ids_per_worker(group, GPU)[rank]
    os.environ[CUDA_VISIBLE_DEVICES_ENV_VAR] = visible
    if HIP_VISIBLE_DEVICES_ENV_VAR in os.environ:
        os.environ[HIP_VISIBLE_DEVICES_ENV_VAR] = visible

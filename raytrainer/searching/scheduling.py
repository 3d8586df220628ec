"""Driver: the user's scheduler and resources, held against the search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from ray.train.v2.api.config import ScalingConfig
from ray.tune import create_scheduler
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    ResourceChangingScheduler,
    TrialScheduler,
)
from transformers import TrainingArguments

from raytrainer.errors import ArgumentsError, Problem
from raytrainer.searching.goals import Goals
from raytrainer.sweep.lasting import Lasting

_NAMES: dict[type, str] = {
    FIFOScheduler: "fifo",
    ASHAScheduler: "asha",
    HyperBandScheduler: "hyperband",
    HyperBandForBOHB: "bohb",
    MedianStoppingRule: "median_stopping",
    PopulationBasedTraining: "pbt",
}


def scheduling(asked: Any, goals: Goals, given: TrainingArguments, seed: int) -> Lasting:
    """Make a scheduler go by the search's figure.

    Args:
        asked: Ray Tune's, its name, or None.
        goals: what the search goes by.
        given: the training arguments.
        seed: of what it leaves to chance.

    Raises:
        ArgumentsError: it does not fit the search.
    """
    scheduler = _made(asked)
    name = type(scheduler).__name__
    if isinstance(scheduler, ResourceChangingScheduler):
        reason = "a trial's workers are those of scaling_config, whatever resources the scheduler gives it"
        _refuse(name, reason, "ScalingConfig(num_workers=(2, 8)): workers that follow what the cluster has free")
    if type(scheduler) is FIFOScheduler:  # others inherit from it
        return Lasting(scheduler, seed)
    if given.eval_strategy == "no":
        reason = "it decides after each evaluation, and args.eval_strategy is 'no'"
        _refuse(name, reason, "eval_strategy='steps' and eval_steps=... in the training arguments")
    metric, mode = scheduler.metric, getattr(scheduler, "_mode", None)
    if metric is None and goals.several:
        reason = f"it decides by one figure, and direction names {len(goals.metrics)}"
        _refuse(name, reason, f"{name}(metric={goals.metrics[0]!r}, ...), or no scheduler")
    goals.check("scheduler", name, metric, mode, free=True)
    if metric is not None and metric not in goals.metrics and mode is None:
        _refuse(name, f"it goes by {metric}, and has no mode", f"{name}(metric={metric!r}, mode='min')")
    scheduler.set_search_properties(None if metric else goals.metrics[0], None if mode else goals.modes[0])
    return Lasting(scheduler, seed)


def waits(scheduler: Lasting) -> bool:
    """Tell whether trials wait for each other under a scheduler: those that wait take no place."""
    return isinstance(scheduler.base, HyperBandScheduler | PopulationBasedTraining)


def name_of(scheduler: Lasting) -> str:
    """Name a scheduler as a sweep's config does."""
    return _NAMES.get(type(scheduler.base), type(scheduler.base).__name__)


def scaling_of(given: ScalingConfig | None, asked: Any) -> ScalingConfig | None:
    """Return the workers of a trial; None for one, with a GPU where the cluster has any.

    Args:
        given: the trainer's.
        asked: Ray Tune's ``resources_per_trial``, None where the user gave none.

    Raises:
        ArgumentsError: the two contradict each other, or these are no resources of one worker.
    """
    setting = "resources_per_trial"
    if asked is None:
        return given
    if given is not None:
        reason = "scaling_config says what a trial's workers have"
        raise ArgumentsError(Problem(setting, asked, reason, "ScalingConfig(resources_per_worker=...)"))
    fix = "{'cpu': 2, 'gpu': 1}; for several workers a trial scaling_config=ScalingConfig(num_workers=2)"
    if not isinstance(asked, Mapping) or not all(_amount(amount) for amount in asked.values()):
        raise ArgumentsError(Problem(setting, asked, "it is no dictionary of amounts", fix))
    names = {"cpu": "CPU", "gpu": "GPU"}
    resources = {names.get(str(name).lower(), str(name)): float(amount) for name, amount in asked.items()}
    gpus = resources.get("GPU", 0.0)
    if gpus > 1:
        reason = "a trial has one worker, and a worker uses one GPU"
        raise ArgumentsError(Problem(setting, asked, reason, f"ScalingConfig(num_workers={int(gpus)}, use_gpu=True)"))
    return ScalingConfig(num_workers=1, use_gpu=gpus > 0, resources_per_worker=resources)


def _made(asked: Any) -> TrialScheduler:
    if asked is None:
        return FIFOScheduler()
    if isinstance(asked, str):
        try:
            return create_scheduler(asked)
        except (ValueError, TypeError, ImportError) as error:
            _refuse(asked, str(error).splitlines()[0], "ray.tune.schedulers.ASHAScheduler()")
    if not isinstance(asked, TrialScheduler):
        _refuse(asked, f"it is a {type(asked).__name__}, no scheduler", "ray.tune.schedulers.ASHAScheduler()")
    return asked


def _amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _refuse(value: object, reason: str, fix: str) -> NoReturn:
    raise ArgumentsError(Problem("scheduler", value, reason, fix))

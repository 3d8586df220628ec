"""Driver: schedulers by name, each with its own options checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from raytrainer.config.section import Count
from raytrainer.config.tree import Node
from raytrainer.errors import unknown_name
from raytrainer.sweep.lasting import Lasting
from raytrainer.sweep.options import NotNegative, Options, Positive, Where
from raytrainer.sweep.schedulers_population import OF_PB2, OF_PBT, OURS, TIME, pb2, pbt

if TYPE_CHECKING:
    from raytrainer.config.sweep import Tune
    from raytrainer.sweep.space import Space

_COMMON = {"time_attr": TIME, "max_t": Annotated[float, Field(ge=1)], "reduction_factor": Annotated[float, Field(gt=1)]}
_ASHA = {**_COMMON, "max_t": Positive, "grace_period": Positive, "brackets": Count}
_MEDIAN = {
    "time_attr": TIME,
    "grace_period": NotNegative,
    "min_samples_required": Count,
    "min_time_slice": NotNegative,
}
OPTIONS = {
    "fifo": Options(FIFOScheduler, {}, OURS),
    "asha": Options(AsyncHyperBandScheduler, _ASHA, OURS),
    "hyperband": Options(HyperBandScheduler, _COMMON, OURS),
    "bohb": Options(HyperBandForBOHB, _COMMON, OURS),
    "median_stopping": Options(MedianStoppingRule, _MEDIAN, OURS),
    "pbt": OF_PBT,
    "pb2": OF_PB2,
}


@dataclass(frozen=True)
class _Asked:
    options: dict[str, Any]
    where: Where
    space: Space
    max_t: int | None


def scheduler(tune: Tune, space: Space, max_t: int | None, root: Node | None = None) -> Lasting:
    """Build the scheduler that a sweep asks for.

    Args:
        tune: the sweep's ``tune`` section.
        space: the search space.
        max_t: optimizer steps of a whole trial, where that is known: what ``max_t`` is without one.
        root: the sweep's config with its places, for errors.

    Returns:
        A scheduler for ``ray.tune.run``, whose ``metric=`` and ``mode=`` stay empty.

    Raises:
        ConfigError: an option is unknown or wrong, or the scheduler does not fit the rest.
    """
    name, given = tune.scheduling
    where = Where(("tune", "scheduler", name), root)
    if name == "resource_changing":
        reason = (
            "Ray refuses it where trials share warm processes, and a trial's workers are those of its config, "
            "whatever resources the scheduler gives it"
        )
        where.refuse(name, reason, "scaling: {num_workers: [2, 8]}: workers that follow what the cluster has free")
    if name not in OPTIONS:
        where.refuse(name, "there is no such scheduler", unknown_name(name, list(OPTIONS)))
    asked = _Asked(OPTIONS[name].check(given, where), where, space, max_t)
    if name == "fifo":
        return Lasting(FIFOScheduler(), tune.seed)
    metrics, modes = tune.metrics, tune.modes
    if len(metrics) > 1:
        where.refuse(name, f"it decides by one metric, and tune.metric has {len(metrics)}", "scheduler: fifo")
    built = _BUILD[name](asked, {"time_attr": "step", "metric": metrics[0], "mode": modes[0]})
    return Lasting(built, tune.seed)


def _asha(asked: _Asked, common: dict[str, Any]) -> TrialScheduler:
    longest, least = _longest(asked), asked.options.get("grace_period", 1)
    if least > longest:
        asked.where.refuse(least, f"it is more than max_t, which is {longest:g}", "a smaller one", "grace_period")
    return AsyncHyperBandScheduler(**{**common, **asked.options, "max_t": longest})


def _hyperband(asked: _Asked, common: dict[str, Any]) -> TrialScheduler:
    return HyperBandScheduler(**{**common, **asked.options, "max_t": _longest(asked)})


def _bohb(asked: _Asked, common: dict[str, Any]) -> TrialScheduler:
    return HyperBandForBOHB(**{**common, **asked.options, "max_t": _longest(asked)})


def _median(asked: _Asked, common: dict[str, Any]) -> TrialScheduler:
    need(asked.options, "grace_period", asked.where)
    return MedianStoppingRule(**{**common, **asked.options})


def _longest(asked: _Asked) -> Any:
    """Return the time after which a trial is done in any case."""
    if "max_t" in asked.options:
        return asked.options["max_t"]
    attribute = asked.options.get("time_attr", "step")
    if attribute != "step":
        asked.where.lacks(f"with time_attr: {attribute} it has to be set, in its units", "max_t: 10", "max_t")
    if asked.max_t is None:
        asked.where.lacks("how many steps a trial has is not known", "max_t, or training.max_steps", "max_t")
    return asked.max_t


def need(options: Mapping[str, Any], name: str, where: Where) -> None:
    """Refuse to take Ray's default of a time, which is 60 and meant as seconds, for steps.

    Raises:
        ConfigError: it has to be set.
    """
    attribute = options.get("time_attr", "step")
    if name not in options and attribute != "time_total_s":
        where.lacks(f"it has to be set, in units of time_attr: {attribute}", f"{name}: 100", name)


def _pbt(asked: _Asked, common: dict[str, Any]) -> TrialScheduler:
    need(asked.options, "perturbation_interval", asked.where)
    return pbt({**common, **asked.options}, asked.where, asked.space)


def _pb2(asked: _Asked, common: dict[str, Any]) -> TrialScheduler:
    need(asked.options, "perturbation_interval", asked.where)
    return pb2({**common, **asked.options}, asked.where, asked.space)


_BUILD: dict[str, Callable[[_Asked, dict[str, Any]], TrialScheduler]] = {
    "asha": _asha,
    "hyperband": _hyperband,
    "bohb": _bohb,
    "median_stopping": _median,
    "pbt": _pbt,
    "pb2": _pb2,
}

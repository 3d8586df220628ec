"""What of a search does not fit the rest of the sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from raytrainer.config.sweep_parameter import is_number
from raytrainer.errors import ConfigError, Problem
from raytrainer.sweep.options import Where
from raytrainer.sweep.suggestions import Known

if TYPE_CHECKING:
    from raytrainer.config.sweep import Tune
    from raytrainer.sweep.space import Space

_POPULATIONS = ("pbt", "pb2")
_UNBOUNDED = ("bohb", "ax")
"""Search algorithms that take no normal distribution."""


def check_pairs(tune: Tune, space: Space, where: Where) -> None:
    """Check search algorithm, scheduler, space and numbers against each other.

    Args:
        tune: the sweep's ``tune`` section.
        space: the search space.
        where: the search's place.

    Raises:
        ConfigError: with everything that does not fit.
    """
    search, scheduler = tune.searching[0], tune.scheduling[0]
    beside = Where(("tune", "scheduler", scheduler), where.root)
    problems = []
    if scheduler in _POPULATIONS:
        if search not in ("random", "grid"):
            reason = f"{scheduler} finds values itself, from a population that is drawn at random"
            problems.append(Problem(str(where), search, reason, "search: random"))
        size = tune.num_samples * space.grid_size
        if size < 2:
            reason = "trials go on from each other, and there is one" if size > 0 else "a population has a size"
            setting = Where(("tune", "num_samples"), where.root)
            problems.append(Problem(str(setting), tune.num_samples, reason, "num_samples: 8"))
    if (search == "bohb") != (scheduler == "bohb"):
        other, fix = (beside, "scheduler: bohb") if search == "bohb" else (where, "search: bohb")
        value = scheduler if search == "bohb" else search
        problems.append(Problem(str(other), value, "bohb is a search and a scheduler that work together", fix))
    if tune.repeats > 1 and scheduler != "fifo":
        reason = f"{scheduler} treats each trial by itself, and a mean is of trials that ran to their end"
        problems.append(Problem(str(Where(("tune", "repeats"), where.root)), tune.repeats, reason, "scheduler: fifo"))
    if len(tune.metrics) > 1 and search not in ("random", "grid", "optuna"):
        reason = f"it goes by one metric, and tune.metric has {len(tune.metrics)}"
        problems.append(Problem(str(where), search, reason, "search: optuna"))
    if search == "grid" and space.grid_size == 1 and not any(one.kind == "grid" for one in space.parameters):
        fix = "training.learning_rate: {grid: [1e-4, 1e-3]} in the search space; or search: random"
        problems.append(Problem(str(where), search, "no key of the search space is a grid", fix))
    problems += _of_space(search, space, where)
    if problems:
        raise ConfigError(*problems)


def check_known(tune: Tune, space: Space, known: Sequence[Known], where: Where) -> None:
    """Check what is tried first against the scheduler.

    Args:
        tune: the sweep's ``tune`` section.
        space: the search space.
        known: what is tried first.
        where: the search's place.

    Raises:
        ConfigError: a population is to go on from what cannot be mutated.
    """
    scheduler, options = tune.scheduling
    if scheduler not in _POPULATIONS:
        return
    mutated = options.get("hyperparam_mutations", options.get("hyperparam_bounds"))
    for one in known:
        for parameter in space.parameters:
            key = parameter.key
            if parameter.bounds is None or (mutated and key not in mutated) or is_number(one.values[key]):
                continue
            name = "baseline" if one.origin == "default" else "points"
            reason = f"{scheduler} mutates {key}, and there it is no number"
            fix = f"a number for {key}, or without it among tune.{name}"
            raise ConfigError(Problem(str(Where(("tune", name), where.root)), one.values[key], reason, fix))


def _of_space(search: str, space: Space, where: Where) -> list[Problem]:
    problems = []
    for one in space.parameters:
        setting = str(Where(("search_space", one.key, one.kind), where.root))
        if one.kind == "grid" and search not in ("random", "grid"):
            problems.append(Problem(setting, list(one.values), f"{search} chooses its points itself", "choice"))
        elif one.normal and search in _UNBOUNDED:
            reason = f"{search} takes no distribution without bounds"
            problems.append(Problem(setting, list(one.bounds or ()), reason, "uniform; or search: optuna"))
    return problems

"""Which configurations a sweep tries first, and how many trials it has."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from raytrainer.config.hosted import training_fields
from raytrainer.config.sweep_parameter import Parameter
from raytrainer.config.sweep_space import is_there
from raytrainer.errors import ConfigError, Problem
from raytrainer.sweep.searchers_variants import sampled
from raytrainer.sweep.suggestions import Known

if TYPE_CHECKING:
    from raytrainer.config.sweep import Tune
    from raytrainer.sweep.space import Space


def known_first(tune: Tune, space: Space, base: Mapping[str, Any]) -> list[Known]:
    """Return what is tried first: the base itself, where that is asked for, then the points that the user lists.

    A point need not have a value for every key: the rest is sampled.

    Args:
        tune: the sweep's ``tune`` section.
        space: the search space.
        base: the run's config, nested plain values.

    Raises:
        ConfigError: the base is asked for, and has no value for a key of the space.
    """
    rng = np.random.RandomState(tune.seed)
    known = []
    if tune.baseline:
        values = of_base(space, base)
        whole = {**next(sampled(space, rng)), **values}
        known.append(Known(whole, "default", all(p.takes(values[p.key]) for p in space.parameters if p.key in values)))
    for point in tune.points:
        whole = {**next(sampled(space, rng)), **point}
        known.append(Known(whole, "known", all(p.takes(whole[p.key]) for p in space.parameters)))
    return known


def _samples(tune: Tune, space: Space, known: Sequence[Known]) -> int:
    """Return how often the space is sampled: the known configurations are among them, but not where there is a grid."""
    wanted = sys.maxsize if tune.num_samples == -1 else tune.num_samples
    return wanted if space.grid_size > 1 else max(0, wanted - len(known))


def trials(tune: Tune, space: Space, known: Sequence[Known]) -> int:
    """Return how many trials there are at most, repetitions counted."""
    configurations = len(known) + _samples(tune, space, known) * space.grid_size
    most = tune.budget.max_trials or sys.maxsize
    return min(configurations * tune.repeats, most, sys.maxsize)


def of_base(space: Space, base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that the base itself has for the keys of a space.

    Raises:
        ConfigError: it has none for one of them.
    """
    values: dict[str, Any] = {}
    for one in space.ordered():
        if not isinstance(one, Parameter) or not is_there(one.when, values):
            continue
        found, there = _at(one.key, base)
        if not there:
            fix = f"{one.key} in the base, or baseline: false"
            raise ConfigError(Problem("tune.baseline", True, f"the base has no value for {one.key}", fix))
        values[one.key] = found
    return values


def _at(key: str, base: Mapping[str, Any]) -> tuple[Any, bool]:
    section, _, name = key.partition(".")
    found: Any = base
    for step in key.split("."):
        if not (isinstance(found, Mapping) and step in found):
            field = training_fields(True).get(name) if section == "training" and "script" not in base else None
            has = field is not None and field.has_default
            return (field.default, True) if field is not None and has else (None, False)
        found = found[step]
    return found, True

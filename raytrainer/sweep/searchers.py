"""Driver: search algorithms by name, each with its own options checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.tune.search import BasicVariantGenerator

from raytrainer.config.tree import Node
from raytrainer.errors import unknown_name
from raytrainer.sweep.known import known_first, trials
from raytrainer.sweep.lasting import Lasting
from raytrainer.sweep.needs import require
from raytrainer.sweep.options import Options, Where
from raytrainer.sweep.pairs import check_known, check_pairs
from raytrainer.sweep.searchers_variants import Variants
from raytrainer.sweep.suggesting import Suggesting
from raytrainer.sweep.suggestions import Goal, Known, Model, Suggestions

if TYPE_CHECKING:
    from raytrainer.config.sweep import Tune
    from raytrainer.sweep.space import Space

OF_VARIANTS = Options(
    BasicVariantGenerator,
    {},
    {
        "points_to_evaluate": "tune.points, without it here",
        "max_concurrent": "tune.max_concurrent_trials, without it here",
        "random_state": "tune.seed, without it here",
    },
)
_WAITING = ("hyperband", "bohb", "pbt", "pb2")
"""Schedulers under which trials wait for each other: those that wait take no place."""


@dataclass(frozen=True)
class _Asked:
    tune: Tune
    space: Space
    options: dict[str, Any]
    known: list[Known]
    where: Where
    max_concurrent: int


def searcher(
    tune: Tune,
    space: Space,
    base: Mapping[str, Any],
    scheduler: Lasting | None = None,
    max_concurrent: int = 0,
    root: Node | None = None,
) -> tuple[Suggesting, dict[str, Any]]:
    """Build the search algorithm that a sweep asks for.

    Args:
        tune: the sweep's ``tune`` section.
        space: the search space.
        base: the run's config, nested plain values.
        scheduler: the sweep's; its state is saved and restored with the search algorithm's.
        max_concurrent: how many trials run at a time; 0 for as many as Ray starts.
        root: the sweep's config with its places, for errors.

    Returns:
        The search algorithm for ``ray.tune.run(search_alg=)``, and what to give as ``config=``; ``metric=``,
        ``mode=`` and ``max_concurrent_trials=`` stay empty, ``num_samples=`` has no effect.

    Raises:
        ConfigError: an option is unknown or wrong, a package is missing, or things do not fit each other.
    """
    name, given = tune.searching
    where = Where(("tune", "search", name), root)
    if name not in _BUILD:
        where.refuse(name, "there is no such search algorithm", unknown_name(name, list(_BUILD)))
    require(str(where), name)
    check_pairs(tune, space, where)
    known = known_first(tune, space, base)
    check_known(tune, space, known, where)
    model = _BUILD[name](_Asked(tune, space, given, known, where, max_concurrent))
    limit = trials(tune, space, known)
    suggestions = Suggestions(model, known, tune.metrics, tune.modes, tune.scope == "best", tune.repeats, limit)
    waiting = tune.scheduling[0] in _WAITING
    bounded = 0 if waiting and not model.learns else max_concurrent
    return Suggesting(suggestions, scheduler, bounded, counts_paused=not waiting), {}


def _variants(asked: _Asked) -> Model:
    options = OF_VARIANTS.check(asked.options, asked.where)
    return Variants(asked.space, asked.tune.seed, asked.known, **options)


def _optuna(asked: _Asked) -> Model:
    from raytrainer.sweep import searchers_optuna as of

    sampler = asked.options.get("sampler", "tpe")
    known_sampler = sampler if isinstance(sampler, str) and sampler in of.SAMPLERS else "tpe"
    options = of.options(known_sampler).check(asked.options, asked.where)
    require(asked.where.spell("sampler"), sampler)
    metrics = asked.tune.metrics
    built = of.sampler_of(options, asked.tune.seed, len(metrics), asked.where)
    evaluated = of.evaluated_trials(options, asked.space, metrics, asked.where)
    return of.Optuna(asked.space, built, metrics, asked.tune.modes, asked.known, evaluated)


def _hyperopt(asked: _Asked) -> Model:
    from raytrainer.sweep import searchers_coded as of

    options = of.hyperopt_options().check(asked.options, asked.where)
    return of.hyperopt(asked.space, _goal(asked), asked.known, options)


def _bohb(asked: _Asked) -> Model:
    from raytrainer.sweep import searchers_coded as of

    options = of.bohb_options().check(asked.options, asked.where)
    return of.bohb(asked.space, _goal(asked), asked.known, options, asked.max_concurrent)


def _ax(asked: _Asked) -> Model:
    from raytrainer.sweep import searchers_ax as of

    options = of.OPTIONS.check(asked.options, asked.where)
    return of.Ax(asked.space, _goal(asked), asked.known, options)


def _goal(asked: _Asked) -> Goal:
    return Goal(asked.tune.metrics[0], asked.tune.modes[0], asked.tune.seed)


_BUILD: dict[str, Callable[[_Asked], Model]] = {
    "random": _variants,
    "grid": _variants,
    "optuna": _optuna,
    "hyperopt": _hyperopt,
    "bohb": _bohb,
    "ax": _ax,
}

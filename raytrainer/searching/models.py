"""Driver: what draws the values of a search's trials, as the sweep's ``Suggestions`` ask it."""

from __future__ import annotations

import copy
import sys
from typing import Any, NoReturn

import numpy as np
from ray.tune.search import Searcher
from ray.tune.search.variant_generator import parse_spec_vars
from ray.tune.utils import merge_dicts

from raytrainer.errors import ArgumentsError, Problem
from raytrainer.searching.goals import Goals
from raytrainer.searching.spaces import Domains
from raytrainer.sweep.chance import Chance
from raytrainer.sweep.numbers import plain
from raytrainer.sweep.suggestions import Model


class Drawn(Model):
    """Driver: random samples without end; each with every combination of the grids.

    Args:
        space: Ray Tune's domains.
        seed: same seed, same samples.
    """

    learns = False

    def __init__(self, space: Domains, seed: int) -> None:
        self.origin = "grid" if space.grid_size > 1 else "random"
        self._space = space
        self._chance = np.random.RandomState(seed)
        self._ready: list[dict[str, Any]] = []

    def suggest(self, trial_id: str) -> dict[str, Any]:
        if not self._ready:
            self._ready = self._space.sample(self._chance)
        return plain(self._ready.pop(0))


class Searched(Model):
    """Driver: one of Ray Tune's searchers.

    Args:
        searcher: the user's.
        space: what it searches.
        goals: what it goes by.
        seed: of what its library draws from the process's random numbers.

    Raises:
        ArgumentsError: it does not take the space, or goes by something else.
    """

    def __init__(self, searcher: Searcher, space: Domains, goals: Goals, seed: int) -> None:
        self._searcher, self._space, self._chance = searcher, space.space, Chance(seed)
        name = type(searcher).__name__
        if goals.several:
            reason = f"it goes by one figure, and direction names {len(goals.metrics)}"
            _refuse(name, reason, "backend='optuna', or without search_alg: random values")
        goals.check("search_alg", name, searcher.metric, searcher.mode)
        try:
            taken = searcher.set_search_properties(goals.metrics[0], goals.modes[0], copy.deepcopy(self._space))
        except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
            _refuse(name, f"it does not take this hp_space: {error}", "domains that it can draw, or no search_alg")
        _, domains, grids = parse_spec_vars(self._space)
        if not taken and (domains or grids):
            _refuse(name, "it has a space of its own, or takes none", f"{name}(...) without a space: hp_space is it")

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        with self._chance.drawing():
            suggested: Any = self._searcher.suggest(trial_id)
        self.exhausted = suggested == Searcher.FINISHED
        if suggested is None or self.exhausted:
            return None
        return plain(merge_dicts(copy.deepcopy(self._space), suggested))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        with self._chance.drawing():
            self._searcher.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, float] | None) -> None:
        with self._chance.drawing():
            self._searcher.on_trial_complete(trial_id, result, error=result is None)

    def on_pause(self, trial_id: str) -> None:
        if (pause := getattr(self._searcher, "on_pause", None)) is not None:
            pause(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        if (unpause := getattr(self._searcher, "on_unpause", None)) is not None:
            unpause(trial_id)


def samples_of(n_trials: int) -> int:
    """Return how many samples there are, -1 for no end."""
    return sys.maxsize if n_trials == -1 else n_trials


def _refuse(value: object, reason: str, fix: str) -> NoReturn:
    raise ArgumentsError(Problem("search_alg", value, reason, fix))

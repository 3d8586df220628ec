"""Driver: Ray's searchers for HyperOpt and BOHB, with choices by their numbers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from ray import tune as ray_tune
from ray.tune.search.bohb import TuneBOHB
from ray.tune.search.hyperopt import HyperOptSearch

from raytrainer.config.section import Count
from raytrainer.sweep.chance import Chance
from raytrainer.sweep.numbers import plain
from raytrainer.sweep.options import NotNegative, Options, Positive, Share
from raytrainer.sweep.suggestions import Goal, Known, Model

if TYPE_CHECKING:
    from raytrainer.sweep.space import Space

_OURS = {
    "space": "search_space",
    "metric": "tune.metric, without it here",
    "mode": "tune.mode, without it here",
    "points_to_evaluate": "tune.points, without it here",
    "random_state_seed": "tune.seed, without it here",
}


class Choices:
    """A space in which each choice is its number in the list.

    HyperOpt takes a mapping among choices for a space of its own, ConfigSpace makes texts of numbers beside a text.

    Args:
        space: the search space.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._values = {one.key: one.values for one in space.parameters if one.values}

    def domains(self) -> dict[str, Any]:
        """Return what Ray's searchers make their own spaces of."""
        numbers = {key: ray_tune.choice(list(range(len(values)))) for key, values in self._values.items()}
        return {key: numbers.get(key, domain) for key, domain in self.space.domains().items()}

    def coded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values with choices by their numbers."""
        keys = [one.key for one in self.space.parameters]
        coded = self.space.clamp({key: values[key] for key in keys})
        return {key: self._values[key].index(v) if key in self._values else v for key, v in coded.items()}

    def decoded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values with numbers as choices, each inside its range and of its type."""
        found = {key: self._values[key][int(v)] if key in self._values else v for key, v in plain(values).items()}
        return self.space.clamp(found)


class Coded(Model):
    """Driver: one of Ray's searchers over a space of numbers.

    Args:
        choices: the space.
        inner: Ray's searcher.
        seed: of what the library draws from the process's random numbers.
    """

    def __init__(self, choices: Choices, inner: Any, seed: int) -> None:
        self.inner = inner
        self._choices = choices
        self._chance = Chance(seed)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        with self._chance.drawing():
            suggested = self.inner.suggest(trial_id)
        return None if suggested is None else self._choices.decoded(suggested)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        with self._chance.drawing():
            self.inner.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, float] | None) -> None:
        with self._chance.drawing():
            self.inner.on_trial_complete(trial_id, result, error=result is None)


class HyperOpt(Coded):
    """Driver: HyperOpt's tree of Parzen estimators."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        first = self.inner.algo.keywords.get("n_startup_jobs", 20)
        self.origin = "random" if len(self.inner._hpopt_trials.trials) < first else "model"
        return super().suggest(trial_id)


class Bohb(Coded):
    """Driver: BOHB's model, for the scheduler of that name, which tells it of budgets and of pauses."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        suggested = super().suggest(trial_id)
        self.origin = "model" if self.inner.bohber.by_model else "random"
        return suggested

    def on_pause(self, trial_id: str) -> None:
        self.inner.on_pause(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        self.inner.on_unpause(trial_id)


class _Told:
    """hpbandster's generator, which tells whether its last configuration came from the model."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self.by_model = False

    def get_config(self, budget: Any) -> Any:
        config, how = self._generator.get_config(budget)
        self.by_model = bool(how.get("model_based_pick"))
        return config, how

    def new_result(self, job: Any) -> None:
        self._generator.new_result(job)


def hyperopt_options() -> Options:
    """Return what the options of ``search: {hyperopt: ...}`` may be."""
    bounds = {"n_initial_points": Annotated[int, Field(ge=0)], "gamma": Annotated[float, Field(gt=0, lt=1)]}
    return Options(HyperOptSearch, bounds, _OURS)


def bohb_options() -> Options:
    """Return what the options of ``search: {bohb: ...}`` may be: those of hpbandster's generator."""
    from hpbandster.optimizers.config_generators.bohb import BOHB

    kinds: dict[str, Any] = {
        "min_points_in_model": Count,
        "top_n_percent": Annotated[int, Field(ge=1, le=100)],
        "num_samples": Count,
        "random_fraction": Share,
        "bandwidth_factor": Positive,
        "min_bandwidth": NotNegative,
    }
    takes = inspect.signature(BOHB).parameters
    return Options(BOHB, {name: kind for name, kind in kinds.items() if name in takes}, {**_OURS, "seed": "tune.seed"})


def hyperopt(space: Space, goal: Goal, known: Sequence[Known], options: Mapping[str, Any]) -> HyperOpt:
    """Build HyperOpt's search over a space."""
    choices = Choices(space)
    points = [choices.coded(point.values) for point in known if point.inside]
    goals: Any = {"metric": goal.metric, "mode": goal.mode, "random_state_seed": goal.seed}
    inner = HyperOptSearch(**goals, points_to_evaluate=points or None, **options)
    inner.set_search_properties(goal.metric, goal.mode, choices.domains())
    return HyperOpt(choices, inner, goal.seed)


def bohb(space: Space, goal: Goal, known: Sequence[Known], options: Mapping[str, Any], max_concurrent: int) -> Bohb:
    """Build BOHB's search over a space."""
    choices = Choices(space)
    points = [choices.coded(point.values) for point in known if point.inside]
    goals: Any = {"metric": goal.metric, "mode": goal.mode, "seed": goal.seed}
    inner: Any = TuneBOHB(bohb_config=dict(options), **goals, points_to_evaluate=points, max_concurrent=max_concurrent)
    inner.set_search_properties(goal.metric, goal.mode, choices.domains())
    inner.bohber = _Told(inner.bohber)
    return Bohb(choices, inner, goal.seed)

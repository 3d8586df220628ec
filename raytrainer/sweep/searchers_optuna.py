"""Driver: Optuna's samplers, over spaces whose parameters may depend on each other."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import Field

from raytrainer.config.section import Count, Section
from raytrainer.errors import unknown_name
from raytrainer.sweep.options import Options, Positive, Share, Where
from raytrainer.sweep.suggestions import Known, Model, Origin

if TYPE_CHECKING:
    from raytrainer.sweep.space import Space

SAMPLERS: dict[str, Any] = {
    "tpe": optuna.samplers.TPESampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "random": optuna.samplers.RandomSampler,
    "nsgaii": optuna.samplers.NSGAIISampler,
    "nsgaiii": optuna.samplers.NSGAIIISampler,
    "gp": optuna.samplers.GPSampler,
    "qmc": optuna.samplers.QMCSampler,
}
_OURS = {
    "seed": "tune.seed, without it here",
    "space": "search_space",
    "metric": "tune.metric, without it here",
    "mode": "tune.mode, without it here",
    "points_to_evaluate": "tune.points, without it here",
    "evaluated_rewards": "evaluated: [{values: {...}, metrics: {...}}]",
    "storage": "nothing: the sweep's folder keeps the study",
    "study_name": "nothing: the sweep's folder keeps the study",
}
_SINGLE = ("cmaes",)
_BOUNDS = {
    "n_startup_trials": Annotated[int, Field(ge=0)],
    "n_ei_candidates": Count,
    "sigma0": Positive,
    "popsize": Count,
    "population_size": Annotated[int, Field(ge=2)],
    "crossover_prob": Share,
    "mutation_prob": Share,
    "swapping_prob": Share,
    "dividing_parameter": Count,
    "qmc_type": Literal["sobol", "halton"],
    "restart_strategy": Literal["ipop", "bipop"],
}


class Evaluated(Section):
    """A configuration whose metrics are known already."""

    values: dict[str, Any]
    """Key of the search space to value."""
    metrics: dict[str, float]
    """What it came to: the metrics that the sweep goes by."""


def options(sampler: str) -> Options:
    """Return what the options of ``search: {optuna: ...}`` may be with a sampler."""
    kind = SAMPLERS[sampler]
    bounds = {name: bound for name, bound in _BOUNDS.items() if name in inspect.signature(kind).parameters}
    own = {"sampler": Literal[tuple(SAMPLERS)], "evaluated": list[Evaluated]}
    return Options(kind, {**bounds, **own}, _OURS)


class Optuna(Model):
    """Driver: an Optuna study over a define-by-run space.

    Ray's OptunaSearch adds the names that Optuna was asked for to what the space returned, leaves a trial that diverged
    running for ever in the study, and takes no evaluated points for such a space.

    Args:
        space: the search space.
        sampler: Optuna's.
        metrics: what it goes by.
        modes: min or max for each metric.
        known: configurations that are tried first.
        evaluated: trials whose metrics are known.
    """

    def __init__(
        self,
        space: Space,
        sampler: optuna.samplers.BaseSampler,
        metrics: Sequence[str],
        modes: Sequence[str],
        known: Sequence[Known],
        evaluated: Sequence[FrozenTrial],
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions: Any = ["minimize" if mode == "min" else "maximize" for mode in modes]
        self.study = optuna.create_study(sampler=sampler, directions=directions)
        self._space, self._metrics = space, list(metrics)
        self._asked: dict[str, optuna.Trial] = {}
        self.study.add_trials(evaluated)
        for point in known:
            if point.inside:
                asked = _Asked(point.values)
                space.suggest(asked)  # type: ignore[arg-type]  # as much of a trial as a space needs
                self.study.enqueue_trial(asked.params)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self.origin = self._next_origin()
        self._asked[trial_id] = trial = self.study.ask()
        return self._space.suggest(trial)

    def on_trial_complete(self, trial_id: str, result: dict[str, float] | None) -> None:
        trial = self._asked.pop(trial_id)
        if result is None:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, [result[metric] for metric in self._metrics])

    def _next_origin(self) -> Origin:
        """Samplers draw at random until they have so many trials to learn from."""
        sampler = self.study.sampler
        if isinstance(sampler, optuna.samplers.RandomSampler | optuna.samplers.QMCSampler):
            return "random"
        first = getattr(sampler, "_n_startup_trials", getattr(sampler, "_population_size", 0))
        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return "random" if len(done) < first else "model"


def sampler_of(given: Mapping[str, Any], seed: int, objectives: int, where: Where) -> optuna.samplers.BaseSampler:
    """Build the sampler that the options ask for."""
    name = given.get("sampler", "tpe")
    if objectives > 1 and name in _SINGLE:
        where.refuse(name, f"it takes one metric, and tune.metric has {objectives}", "tpe or nsgaii", "sampler")
    own = {key: value for key, value in given.items() if key not in ("sampler", "evaluated")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            sampler: optuna.samplers.BaseSampler = SAMPLERS[name](seed=seed, **own)
        except ValueError as error:
            where.refuse(own, str(error), "other options of this sampler")
    return sampler


def evaluated_trials(given: Mapping[str, Any], space: Space, metrics: Sequence[str], where: Where) -> list[FrozenTrial]:
    """Return the trials of which the user says what they came to."""
    trials = []
    parameters = {one.key: one for one in space.parameters}
    for number, point in enumerate(given.get("evaluated", [])):
        here = f"evaluated[{number}]"
        for key, value in point["values"].items():
            if key not in parameters:
                where.refuse(value, f"the search space has no {key}", unknown_name(key, list(parameters)), here)
            if not parameters[key].takes(value):
                where.refuse(value, f"search_space.{key} has no such value", space.describe()[key], here)
        for metric in metrics:
            if metric not in point["metrics"]:
                where.lacks(f"the sweep goes by {metric}", f"metrics: {{{metric}: ...}}", here)
        asked = _Asked(point["values"])
        try:
            space.suggest(asked)  # type: ignore[arg-type]  # as much of a trial as a space needs
        except KeyError as error:
            where.lacks(f"it has no value for {error.args[0]}", f"values: {{{error.args[0]}: ...}}", here)
        values = [float(point["metrics"][metric]) for metric in metrics]
        trials.append(create_trial(params=asked.params, distributions=asked.distributions, values=values))
    return trials


class _Asked:
    """A trial whose values are known: what Optuna would have been asked for, and in which words it has the values."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        value = self._values[name]
        texts = value not in choices or isinstance(value, dict | list)
        return self._note(name, json.dumps(value) if texts else value, CategoricalDistribution(choices))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> Any:
        return self._note(name, self._values[name], IntDistribution(low, high, log, step))

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> Any:
        inside = min(max(self._values[name], low), high)  # of a normal distribution Optuna sees the middle
        return self._note(name, inside, FloatDistribution(low, high, log, step))

    def _note(self, name: str, value: Any, distribution: BaseDistribution) -> Any:
        self.params[name], self.distributions[name] = value, distribution
        return value

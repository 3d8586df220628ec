"""Driver: a search space as Ray Tune and Optuna take it, and a trial's values made of what they sample."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raytrainer.config.sweep_parameter import Parameter
from raytrainer.config.sweep_space import Expression, SearchSpace, declared, is_there

if TYPE_CHECKING:
    import optuna

__all__ = ["Expression", "Parameter", "Space"]


class Space(SearchSpace):
    """A search space. Importing it imports neither Ray nor Optuna."""

    @classmethod
    def of(cls, space: SearchSpace | Mapping[str, Mapping[str, Any]]) -> Space:
        """Make it of a loaded sweep's space, or of what a file would say.

        Args:
            space: ``SweepLoaded.space``, or ``{"training.learning_rate": {"loguniform": [1e-5, 1e-3]}}``.
        """
        found = space if isinstance(space, SearchSpace) else declared(space)
        return cls(found.parameters, found.expressions)

    @property
    def grid_size(self) -> int:
        """How many points the grid has; 1 without one."""
        return math.prod(len(one.values) for one in self.parameters if one.kind == "grid")

    def domains(self) -> dict[str, Any]:
        """Return what Ray Tune samples from, all parameters whatever their conditions."""
        return {one.key: _domain(one) for one in self.parameters}

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Ask an Optuna trial for values, only of parameters that are there.

        Optuna has no normal distribution: it is asked for a number within 3 standard deviations of the mean.
        """
        values: dict[str, Any] = {}
        for one in self.ordered():
            if isinstance(one, Parameter) and is_there(one.when, values):
                values[one.key] = _suggested(one, trial)
        return {one.key: values[one.key] for one in self.parameters if one.key in values}

    def clamp(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Move each value to the nearest one of its range; what is not sampled stays as it is."""
        parameters = {one.key: one for one in self.parameters}
        return {key: parameters[key].clamped(value) if key in parameters else value for key, value in values.items()}

    def mutations(self) -> dict[str, Any]:
        """Return what population based training mutates: domains, and lists where one of a list is chosen."""
        return {one.key: list(one.values) if one.values else _domain(one) for one in self.parameters}

    def bounds(self) -> dict[str, list[float]]:
        """Return the lowest and the highest value of what is a number of any fraction."""
        numbers = [one for one in self.parameters if one.bounds is not None and not one.whole and not one.normal]
        return {one.key: list(one.ends) for one in numbers}

    def describe(self) -> dict[str, str]:
        """Return what each key takes, in a line."""
        return {one.key: _line(one) for one in self.entries}


def _domain(one: Parameter) -> Any:
    from ray import tune

    if one.kind == "grid":
        return tune.grid_search(list(one.values))
    if one.bounds is None:
        return tune.choice(list(one.values))
    low, high = one.bounds if one.normal else one.ends
    if one.normal:
        return tune.randn(low, high) if one.quantum is None else tune.qrandn(low, high, one.quantum)
    if one.whole:
        # Of whole numbers Ray leaves the upper bound out, but not where there are steps above 1.
        least, most, step = int(low), int(high), int(one.quantum or 1)
        if step > 1:
            return tune.qrandint(least, most, step)
        return tune.lograndint(least, most + 1) if "log" in one.kind else tune.randint(least, most + 1)
    made = getattr(tune, one.kind)
    return made(low, high) if one.quantum is None else made(low, high, one.quantum)


def _suggested(one: Parameter, trial: optuna.Trial) -> Any:
    if one.bounds is None:
        return _chosen(one, trial)
    low, high = one.ends
    log = "log" in one.kind
    if one.whole:
        return trial.suggest_int(one.key, low, high, step=int(one.quantum or 1), log=log)
    step = None if log else one.quantum
    return one.clamped(trial.suggest_float(one.key, low, high, step=step, log=log))


def _chosen(one: Parameter, trial: optuna.Trial) -> Any:
    plain = all(value is None or isinstance(value, bool | int | float | str) for value in one.values)
    if plain and len({*one.values}) == len(one.values):
        return trial.suggest_categorical(one.key, list(one.values))
    texts = [json.dumps(value) for value in one.values]
    return one.values[texts.index(str(trial.suggest_categorical(one.key, texts)))]


def _line(one: Parameter | Expression) -> str:
    if isinstance(one, Expression):
        said = f"expr: {one.text}"
    else:
        step = [] if one.quantum is None else [one.quantum]
        said = f"{one.kind}: {json.dumps(list(one.values) if one.bounds is None else [*one.bounds, *step])}"
    when = {key: list(values) if len(values) != 1 else values[0] for key, values in one.when.items()}
    return f"{said}, when: {json.dumps(when)}" if when else said

"""Driver: Ax's Bayesian optimisation."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from ax.service.ax_client import AxClient
from ax.service.utils.instantiation import ObjectiveProperties

from raytrainer.config.section import Count
from raytrainer.sweep.chance import Chance
from raytrainer.sweep.options import Options
from raytrainer.sweep.searchers_coded import Choices
from raytrainer.sweep.suggestions import Goal, Known, Model

if TYPE_CHECKING:
    from raytrainer.config.sweep_parameter import Parameter
    from raytrainer.sweep.space import Space


def _nothing() -> None:
    """Stand for a constructor whose parameters are none of the user's."""


OPTIONS = Options(_nothing, {"num_initialization_trials": Count}, {"random_seed": "tune.seed, without it here"})
"""What the options of ``search: {ax: ...}`` may be: how many configurations are drawn before there is a model."""


class Ax(Model):
    """Driver: an AxClient as ``Suggestions`` asks it.

    Ray's AxSearch reads its metric back from an objective that has another shape in Ax 1.3, and fails.

    Args:
        space: the search space.
        goal: what it goes by.
        known: configurations that are tried first.
        options: see ``OPTIONS``.
    """

    def __init__(self, space: Space, goal: Goal, known: Sequence[Known], options: Mapping[str, Any]) -> None:
        self._metric, self._seed, self._asked = goal.metric, goal.seed, 0
        self._choices = Choices(space)
        self._chance = Chance(goal.seed)
        self._fixed = {one.key: 0 for one in space.parameters if len(one.values) == 1}
        self._known = [self._choices.coded(point.values) for point in known if point.inside]
        self._trials: dict[str, int] = {}
        logging.getLogger("ax").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._client = AxClient(random_seed=goal.seed, verbose_logging=False, enforce_sequential_optimization=False)
            self._client.create_experiment(
                parameters=[_parameter(one) for one in space.parameters if one.key not in self._fixed],
                objectives={goal.metric: ObjectiveProperties(minimize=goal.mode == "min")},
                choose_generation_strategy_kwargs=dict(options),
            )

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self._asked += 1
        with self._chance.drawing(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(self._seed + self._asked)
            if self._known:
                point = {key: value for key, value in self._known.pop(0).items() if key not in self._fixed}
                values, self._trials[trial_id] = self._client.attach_trial(point)
            else:
                values, self._trials[trial_id] = self._client.get_next_trial()
        made: Any = self._client.experiment.trials[self._trials[trial_id]]
        self.origin = "random" if "Sobol" in str(made.generator_run._generation_node_name) else "model"
        return self._choices.decoded({**values, **self._fixed})

    def on_trial_complete(self, trial_id: str, result: dict[str, float] | None) -> None:
        index = self._trials.pop(trial_id)
        if result is None:
            self._client.log_trial_failure(index)
        else:
            self._client.complete_trial(index, raw_data={self._metric: (result[self._metric], None)})


def _parameter(one: Parameter) -> dict[str, Any]:
    if one.values:
        numbers = list(range(len(one.values)))
        order = {"is_ordered": False, "sort_values": False}
        return {"name": one.key, "type": "choice", "values": numbers, "value_type": "int", **order}
    kind = {"value_type": "int" if one.whole else "float", "log_scale": "log" in one.kind}
    return {"name": one.key, "type": "range", "bounds": list(one.ends), **kind}

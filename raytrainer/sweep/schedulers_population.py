"""Driver: schedulers in which bad trials go on from good ones, and what is mutated stays in the search space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining
from ray.tune.schedulers.pb2 import PB2

from raytrainer.config.section import Word
from raytrainer.errors import unknown_name
from raytrainer.sweep.needs import require
from raytrainer.sweep.numbers import plain
from raytrainer.sweep.options import NotNegative, Options, Positive, Share, Where
from raytrainer.sweep.suggestions import ORIGIN

if TYPE_CHECKING:
    from raytrainer.sweep.space import Space

OURS = {
    "metric": "tune.metric, without it here",
    "mode": "tune.mode, without it here",
    "custom_explore_fn": "nothing: what is mutated stays inside the search space",
}
TIME = Literal["step", "epoch", "training_iteration", "time_total_s"]
_KEYS = Annotated[list[Word], Field(min_length=1)]
_COMMON = {
    "time_attr": TIME,
    "perturbation_interval": Positive,
    "quantile_fraction": Annotated[float, Field(ge=0, le=0.5)],
}
OF_PBT = Options(
    PopulationBasedTraining,
    {
        **_COMMON,
        "burn_in_period": NotNegative,
        "resample_probability": Share,
        "perturbation_factors": Annotated[list[Positive], Field(min_length=2, max_length=2)],
        "hyperparam_mutations": _KEYS,
    },
    OURS,
)
OF_PB2 = Options(PB2, {**_COMMON, "hyperparam_bounds": _KEYS}, OURS)


@dataclass(frozen=True)
class Exploit:
    """A trial that goes on from another one's checkpoint, with that one's values mutated.

    Args:
        trial: id of the trial that goes on.
        donor: id of the trial that it goes on from.
        time: the donor's last time, in the scheduler's ``time_attr``.
        config: the trial's config from now on.
    """

    trial: str
    donor: str
    time: float
    config: Mapping[str, Any]


class Population(PopulationBasedTraining):
    """Driver: Ray's PBT, which tells what it did, and does not wait for trials that are over."""

    def __init__(self, **options: Any) -> None:
        self.exploits: list[Exploit] = []
        super().__init__(**options)

    def _exploit(self, tune_controller: Any, trial: Trial, trial_to_clone: Trial) -> None:
        super()._exploit(tune_controller, trial, trial_to_clone)
        # A copy of the donor's has the donor's: mutated, the base as it is would be trained as it is.
        trial.config[ORIGIN] = "model"
        time = self._trial_state[trial_to_clone].last_train_time
        self.exploits.append(Exploit(trial.trial_id, trial_to_clone.trial_id, time, dict(trial.config)))

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        chosen = super().choose_trial_to_run(tune_controller)
        alive = [trial for trial in tune_controller.get_trials() if not trial.is_finished()]
        if chosen is None and self._synch and alive and all(trial.status == Trial.PAUSED for trial in alive):
            # The trial that they waited for ended before its time: Ray would leave them paused for good.
            reached = max(self._trial_state[trial].last_train_time for trial in alive)
            self._next_perturbation_sync = max(self._next_perturbation_sync, reached) + self._perturbation_interval
            return super().choose_trial_to_run(tune_controller)
        return chosen

    def checkpoints(self) -> set[str]:
        """Return the paths of checkpoints that another trial may yet go on from."""
        held = (getattr(state.last_checkpoint, "path", None) for state in self._trial_state.values())
        return {str(path) for path in held if path is not None}


class Bandit(Population, PB2):
    """Driver: Ray's PB2, in logarithms where the search space is logarithmic.

    Args:
        space: the search space.
        bounds: key to least and largest value of what is mutated.
        options: of PB2.
    """

    def __init__(self, space: Space, bounds: Mapping[str, Any], **options: Any) -> None:
        self._logs = {p.key for p in space.parameters if p.key in bounds and "log" in p.kind}
        self._space = space
        scaled: dict[str, Any] = {key: [self._scaled(key, end) for end in ends] for key, ends in bounds.items()}
        super().__init__(hyperparam_bounds=scaled, custom_explore_fn=self._unscaled, **options)

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        PopulationBasedTraining.on_trial_add(self, tune_controller, trial)

    def _save_trial_state(self, state: Any, time: int, result: dict[str, Any], trial: Any) -> Any:
        return super()._save_trial_state(state, time, result, self._in_scale(trial))

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> Any:
        return super()._get_new_config(trial, self._in_scale(trial_to_clone))

    def _in_scale(self, trial: Trial) -> Any:
        mutated = self._hyperparam_bounds
        config = {key: self._scaled(key, value) if key in mutated else value for key, value in trial.config.items()}
        return _Scaled(str(trial), config)

    def _scaled(self, key: str, value: float) -> float:
        inside = float(self._space.clamp({key: value})[key])  # the base, and points of the user's, may lie outside
        return math.log(inside) if key in self._logs else inside

    def _unscaled(self, config: dict[str, Any]) -> dict[str, Any]:
        back = {key: math.exp(config[key]) if key in self._logs else config[key] for key in self._hyperparam_bounds}
        return {**config, **self._space.clamp(plain(back))}


class _Scaled:
    """A trial as PB2 looks at it: its name, and its config on the scale that the model has."""

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        self.name, self.config = name, config

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class _Inside:
    """Puts what PBT mutated back into the search space."""

    space: Space
    keys: tuple[str, ...]

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        return {**config, **self.space.clamp(plain({key: config[key] for key in self.keys}))}


def pbt(options: dict[str, Any], where: Where, space: Space) -> Population:
    """Build PBT over a space, or over those of its keys that ``hyperparam_mutations`` lists."""
    mutations = _those(options, "hyperparam_mutations", space.mutations(), where, "can be mutated")
    return Population(
        **{"log_config": False, **options},
        hyperparam_mutations=mutations,
        custom_explore_fn=_Inside(space, tuple(mutations)),
    )


def pb2(options: dict[str, Any], where: Where, space: Space) -> Bandit:
    """Build PB2 over a space's continuous parameters, or over those that ``hyperparam_bounds`` lists."""
    require(str(where), "pb2")
    bounds = _those(options, "hyperparam_bounds", space.bounds(), where, "is continuous with two ends")
    return Bandit(space, bounds, **{"log_config": False, **options})


def _those(options: dict[str, Any], name: str, all_of_them: dict[str, Any], where: Where, what: str) -> dict[str, Any]:
    """Take an option that lists keys of the space out of the options, and return what those keys have."""
    if not all_of_them:
        where.lacks(f"no parameter of the search space {what}", "another scheduler", name)
    keys = options.pop(name, list(all_of_them))
    for key in keys:
        if key not in all_of_them:
            reason = f"no parameter {key} of the search space {what}"
            where.refuse(key, reason, unknown_name(key, list(all_of_them)), name)
    return {key: all_of_them[key] for key in keys}

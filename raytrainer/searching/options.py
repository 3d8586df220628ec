"""The further arguments of ``hyperparameter_search``: Ray Tune's where they are right here, and our own."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ray.train import CheckpointConfig as TrainCheckpointConfig
from ray.tune import Callback, CheckpointConfig, Stopper
from ray.tune.stopper import FunctionStopper

from raytrainer.errors import ArgumentsError, Problem, unknown_name
from raytrainer.searching.refused import REFUSED


@dataclass(frozen=True)
class Options:
    """The further arguments, checked one by one.

    Args:
        name: of the search's folder.
        storage_path: the folder that the search's folder is in.
        storage_filesystem: pyarrow's, for ``storage_path``.
        scheduler: Ray Tune's, or its name.
        search_alg: Ray Tune's searcher, or its name.
        sampler: Optuna's.
        resources_per_trial: what a trial's one worker asks for.
        max_concurrent_trials: how many trials run at a time at most.
        max_failures: how often a trial goes on after a failure, -1 for always; None for what run_config says.
        time_budget_s: seconds that the search may take, or a timedelta.
        stop: what ends a trial early: metrics with the value to reach, a function, or a Stopper.
        callbacks: Ray Tune's.
        resume: whether to go on with what is in the folder; ``"AUTO"`` where there is something.
        keep_checkpoints_num: 1 to keep a checkpoint of every trial.
        checkpoint_score_attr: what the checkpoint of a trial is chosen by.
        checkpoint_config: the same two in Ray's class.
        raise_on_failed_trial: whether a trial that failed makes the search fail, at its end.
        metric: what it goes by.
        mode: min or max.
        keep: of how many trials a checkpoint stays, the best ones'.
        scope: which evaluation of a trial counts, the last or the best one.
        seed: of what is drawn.
    """

    name: str | None = None
    storage_path: str | None = None
    storage_filesystem: Any = None
    scheduler: Any = None
    search_alg: Any = None
    sampler: Any = None
    resources_per_trial: Any = None
    max_concurrent_trials: int | None = None
    max_failures: int | None = None
    time_budget_s: Any = None
    stop: Any = None
    callbacks: Any = None
    resume: Any = False
    keep_checkpoints_num: int | None = None
    checkpoint_score_attr: str | None = None
    checkpoint_config: Any = None
    raise_on_failed_trial: bool = False
    metric: str | None = None
    mode: str | None = None
    keep: int = 1
    scope: str | None = None
    seed: int = 42

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Read what was given.

        Raises:
            ArgumentsError: with every argument that is wrong.
        """
        known = list(cls.__dataclass_fields__)
        problems = [_unknown(name, value, known) for name, value in given.items() if name not in known]
        options = cls(**{name: value for name, value in given.items() if name in known})
        problems += options._problems()
        if problems:
            raise ArgumentsError(*problems)
        return options

    @property
    def seconds(self) -> float | None:
        """The time budget."""
        budget = self.time_budget_s
        return budget.total_seconds() if isinstance(budget, datetime.timedelta) else budget

    @property
    def kept(self) -> int | None:
        """Of how many trials a checkpoint stays, None for all."""
        every = self.keep_checkpoints_num or getattr(self.checkpoint_config, "num_to_keep", None)
        return None if every else self.keep

    @property
    def stopper(self) -> Stopper | None:
        """What ends a trial early, as Ray Tune has it."""
        if isinstance(self.stop, Mapping):
            limits = dict(self.stop)
            return FunctionStopper(lambda _, result: any(result.get(n, -math.inf) >= v for n, v in limits.items()))
        return self.stop if self.stop is None or isinstance(self.stop, Stopper) else FunctionStopper(self.stop)

    def _problems(self) -> Iterator[Problem]:
        for name, (right, fix) in _RIGHT.items():
            value = getattr(self, name)
            if value != self.__dataclass_fields__[name].default and not right(value):
                yield Problem(name, value, f"it is {_kind(value)}", fix)
        number = self.keep_checkpoints_num or getattr(self.checkpoint_config, "num_to_keep", None)
        if isinstance(number, int) and number > 1:
            reason = "a trial keeps the checkpoint of the evaluation that counts, and no other"
            yield Problem("keep_checkpoints_num", number, reason, "1 for every trial's, or keep=the best trials'")
        attribute = self.checkpoint_score_attr or getattr(self.checkpoint_config, "checkpoint_score_attribute", None)
        if attribute not in (None, "objective", "min-objective", "training_iteration"):
            reason = "a trial's checkpoint is that of the evaluation that counts"
            yield Problem("checkpoint_score_attr", attribute, reason, "compute_objective=..., scope='best' or 'last'")


def _unknown(name: str, value: Any, known: list[str]) -> Problem:
    if name in REFUSED:
        return Problem(name, value, *REFUSED[name])
    return Problem(name, value, "hyperparameter_search takes no such argument", unknown_name(name, known))


def _kind(value: Any) -> str:
    return f"{value!r}" if isinstance(value, int | float | str) else f"a {type(value).__name__}"


def _count(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _all(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and all(isinstance(item, kind) for item in value)


def _duration(value: Any) -> bool:
    if isinstance(value, datetime.timedelta):
        return value.total_seconds() > 0
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


_RIGHT: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: isinstance(value, str) and value.strip(".") != "" and "/" not in value, "a folder's name"),
    "storage_path": (lambda value: bool(value) and not isinstance(value, int), "a folder, or a URI: s3://bucket/path"),
    "max_concurrent_trials": (_count(1), "a whole number from 1"),
    "max_failures": (_count(-1), "a whole number, -1 for always"),
    "time_budget_s": (_duration, "seconds above 0, or a datetime.timedelta"),
    "stop": (lambda value: isinstance(value, Mapping | Stopper) or callable(value), "{'step': 100}, or a function"),
    "callbacks": (_all(Callback), "a list of ray.tune.Callback; transformers' go to the trainer's constructor"),
    "resume": (lambda value: value in (True, None, "AUTO", "AUTO+ERRORED"), "True, False or 'AUTO'"),
    "keep_checkpoints_num": (_count(1), "1 for a checkpoint of every trial"),
    "checkpoint_config": (
        lambda value: isinstance(value, CheckpointConfig | TrainCheckpointConfig),
        "ray.tune.CheckpointConfig(num_to_keep=1)",
    ),
    "raise_on_failed_trial": (lambda value: isinstance(value, bool), "True or False"),
    "keep": (_count(0), "how many trials, 0 for none"),
    "scope": (lambda value: value in ("last", "best"), "'last' or 'best'"),
    "seed": (_count(0), "a whole number from 0"),
}

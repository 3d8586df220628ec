"""Searches and schedulers that are wrong in one way each, and what the error says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

RATE = "training.learning_rate"


@dataclass(frozen=True)
class Row:
    """Settings of ``tune`` that are wrong, and their one problem: the setting, and parts of reason and fix."""

    tune: dict[str, Any]
    setting: str
    reason: str
    fix: str
    space: dict[str, Any] = field(default_factory=lambda: {RATE: {"loguniform": [1e-5, 1e-3]}})
    max_t: int | None = 100


def search(options: Any, below: str, reason: str, fix: str, **more: Any) -> Row:
    """Return the row of a search that is wrong in an option."""
    (name,) = options
    tune = {"search": options, **({"scheduler": "bohb"} if name == "bohb" else {})}
    return Row(tune, f"tune.search.{name}{below}", reason, fix, **more)


def schedule(options: Any, below: str, reason: str, fix: str, **more: Any) -> Row:
    """Return the row of a scheduler that is wrong in an option."""
    (name,) = options
    tune = {"scheduler": options, **({"search": "bohb"} if name == "bohb" else {})}
    return Row(tune, f"tune.scheduler.{name}{below}", reason, fix, **more)


PBT = {"perturbation_interval": 10}
SPELLING = {
    "asha": schedule(
        {"asha": {"grace_periud": 2}}, ".grace_periud", "asha has no option grace_periud", "grace_period;"
    ),
    "the options are listed": schedule(
        {"asha": {"zzz": 2}}, ".zzz", "no option", "brackets, grace_period, max_t, reduction_factor, stop_last_trials"
    ),
    "fifo": schedule({"fifo": {"max_t": 2}}, ".max_t", "fifo has no option max_t", "nothing: fifo has no options"),
    "another's": schedule({"hyperband": {"grace_period": 2}}, ".grace_period", "no option", "max_t"),
    "median": schedule({"median_stopping": {"grace": 1, "grace_period": 1}}, ".grace", "no option", "grace_period;"),
    "pbt": schedule({"pbt": {**PBT, "quantile": 0.2}}, ".quantile", "no option", "quantile_fraction;"),
    "pb2": schedule({"pb2": {**PBT, "resample_probability": 0.2}}, ".resample_probability", "no option", "synch"),
    "optuna": search({"optuna": {"samler": "tpe"}}, ".samler", "optuna has no option samler", "sampler;"),
    "of another sampler": search({"optuna": {"sigma0": 0.1}}, ".sigma0", "no option", "n_startup_trials"),
    "a function": search({"optuna": {"gamma": 3}}, ".gamma", "no option", "multivariate"),
    "hyperopt": search({"hyperopt": {"n_startup": 3}}, ".n_startup", "no option", "the options of hyperopt are gamma"),
    "bohb": search({"bohb": {"random_fractoin": 0.1}}, ".random_fractoin", "no option", "random_fraction;"),
    "ax": search(
        {"ax": {"num_trials": 3}}, ".num_trials", "no option", "the options of ax are num_initialization_trials"
    ),
    "random": search({"random": {"constant_grid": True}}, ".constant_grid", "no option", "constant_grid_search;"),
    "scheduler": Row({"scheduler": "ahsa"}, "tune.scheduler.ahsa", "there is no such scheduler", "asha"),
    "search": Row({"search": "optuma"}, "tune.search.optuma", "there is no such search", "optuna"),
}
TYPES = {
    "text": schedule({"asha": {"max_t": "long"}}, ".max_t", "it is text", "a number above 0"),
    "a fraction": schedule({"asha": {"brackets": 1.5}}, ".brackets", "it is a number", "a whole number"),
    "null": schedule({"asha": {"grace_period": None}}, ".grace_period", "it is null", "a number above 0"),
    "no truth value": schedule({"pbt": {**PBT, "synch": "yes"}}, ".synch", "it is text", "true or false"),
    "one factor": schedule(
        {"pbt": {**PBT, "perturbation_factors": [1.2]}}, ".perturbation_factors", "a list of 1", "a list of 2"
    ),
    "sampler": search({"optuna": {"sampler": "tpa"}}, ".sampler", "none of the choices", "tpe"),
    "no sampler's name": search({"optuna": {"sampler": 3}}, ".sampler", "it is a whole number", "tpe"),
    "startup": search(
        {"optuna": {"n_startup_trials": "ten"}}, ".n_startup_trials", "it is text", "a whole number of at least 0"
    ),
}
BOUNDS = {
    "reduction": schedule(
        {"asha": {"reduction_factor": 1}}, ".reduction_factor", "it is out of range", "a number above 1"
    ),
    "hyperband": schedule({"hyperband": {"max_t": 0.5}}, ".max_t", "it is out of range", "of at least 1"),
    "quantile": schedule({"pbt": {**PBT, "quantile_fraction": 0.7}}, ".quantile_fraction", "range", "at most 0.5"),
    "interval": schedule({"pb2": {"perturbation_interval": 0}}, ".perturbation_interval", "range", "above 0"),
    "gamma": search({"hyperopt": {"gamma": 1.5}}, ".gamma", "it is out of range", "below 1"),
    "bohb fraction": search({"bohb": {"random_fraction": 2}}, ".random_fraction", "it is out of range", "at most 1"),
    "time": schedule({"asha": {"time_attr": "steps"}}, ".time_attr", "none of the choices", "step"),
    "grace": schedule(
        {"asha": {"grace_period": 200}}, ".grace_period", "it is more than max_t, which is 100", "a smaller one"
    ),
}
OURS = {
    "metric": schedule({"asha": {"metric": "loss"}}, ".metric", "the sweep sets it itself", "tune.metric"),
    "explore": schedule({"pbt": {**PBT, "custom_explore_fn": "f"}}, ".custom_explore_fn", "sets it itself", "nothing"),
    "seed": search({"optuna": {"seed": 3}}, ".seed", "the sweep sets it itself", "tune.seed"),
    "points": search({"hyperopt": {"points_to_evaluate": []}}, ".points_to_evaluate", "itself", "tune.points"),
    "rewards": search({"optuna": {"evaluated_rewards": []}}, ".evaluated_rewards", "itself", "evaluated: [{values"),
    "random state": search({"random": {"random_state": 3}}, ".random_state", "itself", "tune.seed"),
}
MISSING = {
    "epochs": schedule({"asha": {"time_attr": "epoch"}}, ".max_t", "with time_attr: epoch it has to be set", "max_t"),
    "steps": schedule({"asha": {}}, ".max_t", "how many steps a trial has is not known", "max_steps", max_t=None),
    "interval": schedule({"pbt": {}}, ".perturbation_interval", "it has to be set", "perturbation_interval: 100"),
    "grace": schedule({"median_stopping": {}}, ".grace_period", "it has to be set", "grace_period: 100"),
}
CHOICE = {RATE: {"choice": [1e-5, 1e-4]}}
PAIRS = {
    "mutated": schedule(
        {"pbt": {**PBT, "hyperparam_mutations": ["training.lr"]}}, ".hyperparam_mutations", "training.lr", RATE
    ),
    "pb2 of choices": schedule({"pb2": PBT}, ".hyperparam_bounds", "no parameter", "another scheduler", space=CHOICE),
    "pbt by a model": Row(
        {"search": "optuna", "scheduler": {"pbt": PBT}}, "tune.search.optuna", "finds values itself", "search: random"
    ),
    "a population of one": Row(
        {"scheduler": {"pbt": PBT}, "num_samples": 1}, "tune.num_samples", "go on from each other", "num_samples: 8"
    ),
    "bohb alone": Row({"search": "bohb"}, "tune.scheduler.fifo", "work together", "scheduler: bohb"),
    "bohb for others": Row({"scheduler": "bohb"}, "tune.search.random", "work together", "search: bohb"),
    "resources": schedule({"resource_changing": {}}, "", "Ray refuses it where trials share", "num_workers: [2, 8]"),
    "a mean of stopped ones": Row(
        {"scheduler": "asha", "repeats": 2}, "tune.repeats", "a mean is of trials that ran to their end", "fifo"
    ),
    "no grid": Row({"search": "grid"}, "tune.search.grid", "no key of the search space is a grid", "search: random"),
    "a grid for a model": Row(
        {"search": "optuna"},
        f"search_space.{RATE}.grid",
        "optuna chooses its points itself",
        "choice",
        space={RATE: {"grid": [1, 2]}},
    ),
    "ax has no bounds": Row(
        {"search": "ax"},
        f"search_space.{RATE}.normal",
        "ax takes no distribution without bounds",
        "uniform",
        space={RATE: {"normal": [0, 1]}},
    ),
    "several metrics": Row(
        {"metric": ["a", "b"], "mode": ["min", "min"], "scheduler": "asha"},
        "tune.scheduler.asha",
        "it decides by one metric",
        "fifo",
    ),
    "one metric for cmaes": Row(
        {"metric": ["a", "b"], "mode": ["min", "min"], "search": {"optuna": {"sampler": "cmaes"}}},
        "tune.search.optuna.sampler",
        "it takes one metric",
        "nsgaii",
    ),
    "several metrics for a model of one": Row(
        {"metric": ["a", "b"], "mode": ["min", "min"], "search": "hyperopt"},
        "tune.search.hyperopt",
        "it goes by one metric",
        "optuna",
    ),
    "a population too small": search(
        {"optuna": {"sampler": "nsgaii", "population_size": 1}}, ".population_size", "out of range", "at least 2"
    ),
}
GOOD = {"values": {RATE: 1e-4}, "metrics": {"eval_loss": 1.0}}
EVALUATED = {
    "another key": search(
        {"optuna": {"evaluated": [{**GOOD, "values": {"training.lr": 1}}]}},
        ".evaluated[0]",
        "the search space has no training.lr",
        RATE,
    ),
    "outside": search(
        {"optuna": {"evaluated": [GOOD, {**GOOD, "values": {RATE: 1.0}}]}}, ".evaluated[1]", "no such value", "loguni"
    ),
    "without": search({"optuna": {"evaluated": [{**GOOD, "values": {}}]}}, ".evaluated[0]", "no value for", "values:"),
    "another metric": search(
        {"optuna": {"evaluated": [{**GOOD, "metrics": {"loss": 1.0}}]}}, ".evaluated[0]", "goes by eval_loss", "metrics"
    ),
    "no metrics": search(
        {"optuna": {"evaluated": [{"values": {}}]}}, ".evaluated[0].metrics", "it has to be set", "metrics:"
    ),
}
ROWS = {
    f"{group}: {name}": row
    for group, rows in {
        **{"spelling": SPELLING, "types": TYPES, "bounds": BOUNDS, "ours": OURS},
        **{"missing": MISSING, "pairs": PAIRS, "evaluated": EVALUATED},
    }.items()
    for name, row in rows.items()
}

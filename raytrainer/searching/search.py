"""Driver: one call of ``hyperparameter_search``, from its checks to the best run."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray import cloudpickle
from ray.train.v2.api.config import RunConfig, ScalingConfig
from transformers import TrainingArguments
from transformers.trainer_utils import BestRun

from raytrainer import cluster, shipping
from raytrainer.checkpoints import Store
from raytrainer.claim import claimed
from raytrainer.errors import ArgumentsError, Problem, TrainingFailed
from raytrainer.job import OF_MLFLOW, Job
from raytrainer.searching.drawing import Drawing, drawing
from raytrainer.searching.folder import Began, begin
from raytrainer.searching.goals import Goals
from raytrainer.searching.names import Names
from raytrainer.searching.options import Options
from raytrainer.searching.scheduling import name_of, scaling_of, scheduling, waits
from raytrainer.searching.study import TrainerStudy
from raytrainer.searching.summary import best_runs
from raytrainer.sweep.budget import Budget
from raytrainer.sweep.lasting import Lasting
from raytrainer.sweep.records import SweepRecord
from raytrainer.sweep.results import read_results
from raytrainer.sweep.runner import Sweep, run_sweep
from raytrainer.sweep.suggesting import Suggesting
from raytrainer.sweep.suggestions import Suggestions
from raytrainer.sweep.tracking import tracked
from raytrainer.tracking import tracking_target


@dataclass(frozen=True)
class Asked:
    """The call: transformers' arguments, unchecked.

    Args:
        hp_space: returns the space, or asks an Optuna trial.
        compute_objective: of an evaluation's metrics.
        n_trials: how many.
        direction: ``minimize`` or ``maximize``, or a list of these.
        backend: ``ray``, ``optuna``, or None.
        hp_name: names a trial.
        further: the other arguments.
    """

    hp_space: Any = None
    compute_objective: Any = None
    n_trials: Any = 20
    direction: Any = "minimize"
    backend: Any = None
    hp_name: Any = None
    further: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """The trainer whose arguments are searched.

    Args:
        given: its training arguments.
        model_init: None where the trainer's own constructor has one inside.
        check: raises where RayTrainer's own arguments do not go with training arguments.
        scaling: its scaling configuration, None for what the cluster has.
        run: its run configuration, None without one.
        folder: of its runs.
        job: makes the job that ``train()`` would run; Ray is connected then.
    """

    given: TrainingArguments
    model_init: Callable[..., Any] | None
    check: Callable[[TrainingArguments], None]
    scaling: ScalingConfig | None
    run: RunConfig | None
    folder: Store
    job: Callable[[], Job]


def search(subject: Subject, asked: Asked) -> BestRun | list[BestRun]:
    """Search on the cluster.

    Args:
        subject: the trainer.
        asked: the call.

    Returns:
        The best run; for a list of directions those of the Pareto front.

    Raises:
        UserError: a mistake that was found before the first trial.
        TrainingFailed: no trial came to anything, or one failed and none may.
        Interrupted: after Ctrl-C or SIGTERM; ``resume=True`` goes on.
    """
    options = Options.of(asked.further)
    goals = Goals.of(asked.compute_objective, asked.direction)
    goals.check("metric", "hyperparameter_search", options.metric, options.mode)
    _check_callables(asked)
    names = Names.of(subject.given)
    drawn = drawing(asked, options, goals, names, subject)
    scheduler = scheduling(options.scheduler, goals, subject.given, options.seed)
    mutated = getattr(scheduler.base, "_hyperparam_mutations", {})
    if problems := list(names.unknown(mutated, subject.model_init, "hyperparam_mutations")):
        raise ArgumentsError(*problems)
    scaling = scaling_of(subject.scaling, options.resources_per_trial)
    before = begin(subject, options)
    record = _record(options, goals, drawn, scheduler, before)
    if before.record is not None and before.record.state == "finished":
        return best_runs(before.folder, goals, {})
    target = tracking_target(subject.given, os.environ, os.getcwd())
    if target is not None and target.run_name is None:
        target = dataclasses.replace(target, run_name=before.name)
    scaling, concurrent = _connect(scaling, options.max_concurrent_trials)
    study = TrainerStudy(subject.job(), scaling, names, goals, asked.hp_name)
    sweep = Sweep(
        study=study,
        folder=before.folder,
        record=record,
        space={},
        search=_suggesting(drawn, goals, record, scheduler, concurrent or 0),
        scheduler=scheduler,
        trials=drawn.trials if drawn.trials < sys.maxsize else None,
        max_concurrent=concurrent,
        max_failures=_max_failures(options, subject.run, scaling),
        keep=sys.maxsize if options.kept is None else options.kept,
        budget=Budget(options.seconds, before=before.seconds),
        apart=study.apart(scaling),
        callbacks=options.callbacks or (),
        stop=options.stopper,
        resume=before.record is not None,
        travelling=OF_MLFLOW if target is not None else (),
    )
    with (
        claimed(before.folder, "name", before.name),
        tracked(target, before.folder, goals.metrics[0], _settings(record), sweep.resume) as tracking,
    ):
        errors = run_sweep(dataclasses.replace(sweep, tracking=tracking))
        best = best_runs(before.folder, goals, errors)
        if tracking is not None:
            tracking.conclude(read_results(before.folder))
    if errors and options.raise_on_failed_trial:
        raise TrainingFailed(f"{len(errors)} trials failed: {', '.join(map(str, sorted(errors)))} ({before.where})")
    return best


def _check_callables(asked: Asked) -> None:
    """Refuse functions that are none, or that cannot travel to the trials."""
    problems = []
    fixes = {"hp_space": "def hp_space(trial): return {...}", "hp_name": "def hp_name(trial): return 'a-name'"}
    for name, fix in fixes.items():
        if (value := getattr(asked, name)) is not None and not callable(value):
            problems.append(Problem(name, value, f"it is a {type(value).__name__} and cannot be called", fix))
    count = asked.n_trials
    endless = count == -1 and asked.further.get("time_budget_s") is not None
    if not isinstance(count, int) or isinstance(count, bool) or (count < 1 and not endless):
        fix = "a whole number from 1; with time_budget_s -1 for as many as there is time for"
        problems.append(Problem("n_trials", count, "it is no number of trials", fix))
    if problems:
        raise ArgumentsError(*problems)
    travelling = {name: getattr(asked, name) for name in ("compute_objective", "hp_name")}
    try:
        cloudpickle.dumps(travelling)
    except Exception as failure:
        raise shipping.explain(failure, travelling, lambda _: None) from failure


def _connect(asked: ScalingConfig | None, most: int | None) -> tuple[ScalingConfig, int | None]:
    """Connect to Ray, and return a trial's workers and how many trials run at a time; None for as many as have room.

    They are counted here: Ray Tune does not know what a trial's workers need, and draws values ahead of the room.
    """
    cluster.connect(math.ceil((most or 1) * cluster.cpus(asked)))
    scaling = asked or ScalingConfig(use_gpu=cluster.default_scaling().use_gpu)
    fewest = scaling.num_workers[0] if isinstance(scaling.num_workers, tuple) else scaling.num_workers
    if missing := cluster.check_supply(scaling, fewest):
        print(missing, file=sys.stderr, flush=True)
    room = cluster.room_for(scaling)
    if room is None:
        return scaling, most
    trials = max(1, room // scaling.max_workers)
    return scaling, min(most, trials) if most else trials


def _settings(record: SweepRecord) -> dict[str, Any]:
    """Return what a search is, for its run in MLflow."""
    names = ("metric", "mode", "scope", "search", "scheduler", "seed")
    return {"search_space": record.space, "tune": {name: getattr(record, name) for name in names}}


def _suggesting(drawn: Drawing, goals: Goals, record: SweepRecord, scheduler: Lasting, concurrent: int) -> Suggesting:
    suggestions = Suggestions(
        drawn.model, [], goals.metrics, goals.modes, record.scope == "best", repeats=1, limit=drawn.trials
    )
    limit = 0 if waits(scheduler) and not drawn.model.learns else concurrent
    return Suggesting(suggestions, scheduler, limit, counts_paused=not waits(scheduler))


def _max_failures(options: Options, run: RunConfig | None, scaling: ScalingConfig) -> int:
    """Return how often a trial goes on after a failure; with several workers Ray Train itself goes by run_config."""
    if options.max_failures is not None:
        return options.max_failures
    config = run.failure_config if run is not None and scaling.max_workers == 1 else None
    return config.max_failures if config is not None else 0


def _record(options: Options, goals: Goals, drawn: Drawing, scheduler: Lasting, before: Began) -> SweepRecord:
    """Return what goes into sweep.json.

    Raises:
        ArgumentsError: the search in the folder is another one.
    """
    scope = options.scope or {"last": "last", "all": "best"}.get(os.environ.get("RAY_SCOPE", "last"))
    if scope is None:
        reason = "a search here counts a trial's last evaluation or its best one"
        raise ArgumentsError(Problem("RAY_SCOPE", os.environ["RAY_SCOPE"], reason, "last, all, or scope='best'"))
    record = SweepRecord(
        name=before.name,
        metric=goals.metrics,
        mode=list(goals.modes),
        scope=scope,
        search={drawn.name: {}},
        scheduler={name_of(scheduler): {}},
        seed=options.seed,
        space=drawn.space,
    )
    if before.record is None:
        return record
    for name in ("metric", "mode", "scope", "search", "scheduler", "seed", "space"):
        if getattr(before.record, name) != getattr(record, name):
            reason = f"the search in {before.where} has another {name}: {getattr(before.record, name)!r}"
            raise ArgumentsError(Problem("resume", getattr(record, name), reason, "the same call, or another name"))
    return dataclasses.replace(before.record, ended=None, state="running")

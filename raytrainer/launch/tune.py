"""``raytrainer tune``: a sweep's config becomes trials, and leaves their results."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import Any

import yaml

from raytrainer.checkpoints import Store, join, on_this_machine
from raytrainer.claim import claimed
from raytrainer.config.section import Common, MLflow
from raytrainer.config.sweep import SweepLoaded
from raytrainer.errors import ArgumentsError, Interrupted, Problem, TrainingFailed, UserError
from raytrainer.launch.existing import make_way
from raytrainer.launch.plan import mlflow_environment
from raytrainer.launch.script_records import Named
from raytrainer.launch.sweep_plan import planned_sweep
from raytrainer.launch.train import train
from raytrainer.launch.winner import BEST, best_config, export_model, refit_config, write_best
from raytrainer.run_record import (
    ALLOW_CHANGES_VARIABLE,
    RunRecord,
    asked_to_resume,
    command_of_this_program,
    how_to_resume,
    read_record,
    write_record,
)
from raytrainer.sweep.record_files import read_sweep, read_trials
from raytrainer.sweep.records import SweepRecord
from raytrainer.sweep.report import BRINGS_PLOTLY, PAGE, show
from raytrainer.sweep.results import Results, read_results
from raytrainer.sweep.runner import run_sweep
from raytrainer.sweep.tables import write_results
from raytrainer.sweep.tracking import SweepTracking, tracked
from raytrainer.sweep.wording import cause
from raytrainer.tracking import Target, tracking_target
from raytrainer.tracking_model import put_model

CONFIG = "config.yaml"


def tune(sweep: SweepLoaded, address: str | None = None) -> None:
    """Run a sweep: its trials, then the table of results, best.yaml, the best model and the report.

    Args:
        sweep: its config.
        address: the Ray cluster's; None for ``RAY_ADDRESS``, else a Ray of its own.

    Raises:
        UserError: a mistake that was found before the first trial.
        TrainingFailed: no trial came to anything.
        Interrupted: after Ctrl-C or SIGTERM.
    """
    folder = Store(join(on_this_machine(sweep.base["run"]["storage_path"]), sweep.name))
    with claimed(folder, "name", sweep.name):
        _tune(sweep, folder, address)


def _tune(sweep: SweepLoaded, folder: Store, address: str | None) -> None:
    before = _what_is_there(sweep, folder)
    record = RunRecord(command_of_this_program(), os.getcwd(), unit="trial")
    failures: dict[int, str] = {}
    if before is not None and before.state == "finished" and _is_concluded(sweep, folder):
        print(f"{folder.path} is finished")
        return
    running = planned_sweep(sweep, folder, before, address) if before is None or before.state != "finished" else None
    target = _target(sweep)
    if before is None and "sweep.json" in folder.files(""):
        make_way(folder, target)
    with tracked(target, folder, sweep.tune.metrics[0], _settings(sweep), before is not None) as tracking:
        if running is not None:
            folder.write(CONFIG, sweep.yaml().encode())
            write_record(folder, dataclasses.replace(record, max_steps=running.trials or 0))
            try:
                failures = run_sweep(dataclasses.replace(running, tracking=tracking))
            except Interrupted:
                _note(folder, record, "interrupted")
                print(f"stopped. To go on: {how_to_resume(record, folder.path)}", file=sys.stderr, flush=True)
                raise
        config = _conclude(sweep, folder, failures, tracking)
    if sweep.tune.refit:
        refit = refit_config(config, folder)
        train(refit, sweep.secrets, address)
    _note(folder, record, "finished")


def _target(sweep: SweepLoaded) -> Target | None:
    """Return the MLflow run that a sweep asks for, which is not made yet; None for none.

    Raises:
        UserError: a variable of MLflow's cannot be read.
    """
    if sweep.base["mlflow"] is None:
        return None
    asked = MLflow.model_validate(sweep.base["mlflow"])
    environment = mlflow_environment(Common(name=sweep.name, mlflow=asked))
    return tracking_target(Named("mlflow", asked.run_name or sweep.name), environment, os.getcwd())


def _settings(sweep: SweepLoaded) -> dict[str, Any]:
    """Return the whole config, without secrets, and without where it is recorded."""
    settings: dict[str, Any] = yaml.safe_load(sweep.yaml())
    return {key: value for key, value in settings.items() if key != "mlflow"}


def _note(folder: Store, record: RunRecord, state: str) -> None:
    """Note how far the sweep has come, for ``raytrainer resume``."""
    trials = read_trials(folder)
    over = sum(trial.state in ("finished", "stopped", "failed") for trial in trials)
    write_record(folder, dataclasses.replace(record, state=state, step=over, max_steps=len(trials)))


def _what_is_there(sweep: SweepLoaded, folder: Store) -> SweepRecord | None:
    """Return the record of the sweep to go on with, None to begin anew.

    Raises:
        ArgumentsError: there is one, and it shall not be touched, or it is another one.
    """
    try:
        before = read_sweep(folder)
    except FileNotFoundError:
        return None
    existing = "resume" if asked_to_resume(folder.path) else sweep.base["run"]["existing"]
    if existing == "resume":
        begun = folder.read(CONFIG)
        if begun != sweep.yaml().encode() and not os.environ.get(ALLOW_CHANGES_VARIABLE):
            fix = "raytrainer resume --allow-changes to go on with the config as it is now, or another name"
            raise ArgumentsError(Problem("name", sweep.name, f"it was begun with another config: {folder.path}", fix))
        if others := sweep.of_other_trials(begun):
            reason = f"{', '.join(others)} cannot change once there are trials: {folder.path}"
            raise ArgumentsError(Problem("name", sweep.name, reason, "what it was begun with, or another name"))
        return before
    if existing == "replace":
        return None
    fix = f"raytrainer resume {folder.path} to go on with it, run.existing=replace to delete it, or another name"
    raise ArgumentsError(Problem("name", sweep.name, f"there is a sweep of that name, {before.state}", fix))


def _is_concluded(sweep: SweepLoaded, folder: Store) -> bool:
    """Tell whether all is there that follows the trials; a refit may have been asked for since."""
    try:
        concluded = read_record(folder).state == "finished"
    except (FileNotFoundError, ValueError):
        return False
    return concluded and not (sweep.tune.refit and "outcome.json" not in folder.files("refit"))


def _record_winner(sweep: SweepLoaded, results: Results, tracking: SweepTracking, model: str | None) -> None:
    """Have MLflow get what the sweep came to, and the best trial's model where that is asked for.

    With a refit it is the refit's model, which its own training puts there.
    """
    tracking.conclude(results)
    if model is not None and not sweep.tune.refit and (best := results.best) is not None:
        asked = MLflow.model_validate(sweep.base["mlflow"])
        try:
            put_model(tracking.trial(best.number), model, asked, (sweep.tune.metrics[0], best.score.values[0]))
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)


def _conclude(sweep: SweepLoaded, folder: Store, failures: dict[int, str], tracking: SweepTracking | None) -> Any:
    """Write what follows the trials, and return the config of the best one.

    Raises:
        TrainingFailed: no trial came to anything.
    """
    results = read_results(folder)
    best = results.best
    if best is None:
        why = cause(next(iter(failures.values()), "no trial was evaluated"))
        raise TrainingFailed(f"no trial of {sweep.name} came to a result: {why} ({folder.path}/trials)")
    config = best_config(sweep, best)
    write_best(sweep, config, best, folder)
    model = export_model(best, folder)
    if not show(folder, write_results(folder)):
        fix = f"{BRINGS_PLOTLY}, and raytrainer report {folder.shown}"
        print(f"warning: there is no {PAGE}, since plotly is not installed: {fix}", file=sys.stderr)
    print(f"best config: {folder.shown}/{BEST}")
    print(f"best model: {model or 'its checkpoint was not kept; raytrainer train makes it again of best.yaml'}")
    if failures:
        print(f"warning: {len(failures)} of {len(results.ranked)} trials failed", file=sys.stderr)
    if tracking is not None:
        _record_winner(sweep, results, tracking, model)
    return config

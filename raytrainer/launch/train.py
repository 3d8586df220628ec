"""``raytrainer train``: a config becomes a run, and leaves its folder."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace

import psutil

from raytrainer import cluster
from raytrainer.checkpoints import Store, join, on_this_machine
from raytrainer.claim import claimed
from raytrainer.config.resolved import resolved_yaml
from raytrainer.config.schema import Script
from raytrainer.config.section import MLflow, Trained
from raytrainer.config.tree import Path
from raytrainer.events import Began, Event
from raytrainer.importing import imported_meanwhile
from raytrainer.launch.cheap import raise_cheap, without_effect
from raytrainer.launch.existing import Existing, make_way, what_is_there
from raytrainer.launch.fast import settled
from raytrainer.launch.outcome import Told, outcome_of, summary
from raytrainer.launch.plan import Plan, job_of, mlflow_environment, plan
from raytrainer.launch.recording import describe, is_of, score
from raytrainer.launch.scaling import scaling_config
from raytrainer.launch.script import run_script
from raytrainer.launch.script_call import ScriptCall
from raytrainer.launch.sending import send_code
from raytrainer.run_record import RESUME_VARIABLE
from raytrainer.tracking import open_tracker
from raytrainer.tracking_entry import Entry
from raytrainer.tracking_model import put_model
from raytrainer.watching import sweep, watched_fit


def train(config: Trained, secrets: Mapping[Path, str], address: str | None = None) -> Told | None:
    """Run a config: train, evaluate, test, save.

    Args:
        config: what to run.
        secrets: what to write of the config in the run's folder instead of passwords, by path.
        address: the Ray cluster's; None for ``RAY_ADDRESS``, else a Ray of its own.

    Returns:
        What it came to; None where the run was finished already.

    Raises:
        UserError: a mistake that was found before the first step.
        Exception: as :func:`raytrainer.run.fit`.
    """
    planned = plan(config)
    with claimed(planned.folder, "name", config.name):
        return _train(config, planned, secrets, address)


def _train(config: Trained, planned: Plan, secrets: Mapping[Path, str], address: str | None) -> Told | None:
    folder = planned.folder
    there = what_is_there(config, folder)
    if there is None:
        return None
    program_s = time.time() - psutil.Process().create_time()
    began = time.monotonic()
    with imported_meanwhile("mlflow.tracking" if planned.tracking is not None else None):
        cluster.connect(cluster.cpus(planned.scaling), address)
        before = {"program": program_s, "ray": time.monotonic() - began}
    before["mlflow"] = time.monotonic() - began - before["ray"]
    planned, chosen = settled(planned)
    config = planned.config
    raise_cheap(planned)
    for line in chosen:
        print(f"fast: {line}", file=sys.stderr)
    resolved = "".join(f"# fast: {line}\n" for line in chosen) + resolved_yaml(config, secrets)
    for line in without_effect(planned):
        print(f"warning: {line}", file=sys.stderr)
    job = replace(job_of(planned, there.resumes, send_code(config)), sinks=[_ConfigKeeper(folder, resolved)])
    if there.replaced:
        make_way(folder, planned.tracking)
    # Last, because it is the job that writes how the MLflow run ends.
    tracker = None
    if planned.tracking is not None:
        again = there.goes_on or is_of(folder, resolved)
        tracker = open_tracker(planned.tracking, folder, again)
        describe(tracker, config, resolved)
    try:
        outcome = watched_fit(job, tracker, folder)
    finally:
        sweep(str(planned.run.storage_path), config.name)
    told = outcome_of(outcome, folder, tracker, before)
    text = json.dumps(asdict(told), indent=1) + "\n"
    folder.write("outcome.json", text.encode())
    folder.write("trainer_state.json", (json.dumps(outcome.state, indent=1) + "\n").encode())
    print(summary(told, tracker))
    if tracker is not None:
        tracker.add(Entry(texts={"outcome.json": text}, tags={"raytrainer.model": told.model}))
        try:
            put_model(tracker, told.model, config.mlflow or MLflow(), score(config, told.metrics))
        finally:
            tracker.drain()
    return told


class _ConfigKeeper:
    """Driver: a sink that writes the config beside the run, once there is one."""

    def __init__(self, folder: Store, text: str) -> None:
        self._folder, self._text = folder, text

    def handle(self, event: Event) -> None:
        if isinstance(event, Began):
            with contextlib.suppress(OSError):  # as for run.json: a storage that fails for a moment stops nothing
                self._folder.write("config.yaml", self._text.encode())

    def close(self, error: BaseException | None) -> None:
        pass


def train_script(config: Script, address: str | None = None) -> int:
    """Run the script of a config on every worker.

    Args:
        config: names the script.
        address: the Ray cluster's; None for ``RAY_ADDRESS``, else a Ray of its own.

    Returns:
        The exit status.

    Raises:
        UserError: a mistake that was found before the script's first step.
    """
    storage = on_this_machine(config.run.storage_path)
    folder = Store(join(storage, config.name))
    with claimed(folder, "name", config.name):
        there = what_is_there(config, folder)
        if there is None:
            return 0
        return _run_script(config, storage, folder, there, address)


def _run_script(config: Script, storage: str, folder: Store, there: Existing, address: str | None) -> int:
    if there.resumes:
        os.environ[RESUME_VARIABLE] = folder.path
    os.environ.update(mlflow_environment(config))
    call = ScriptCall(
        script=config.script,
        module=False,
        arguments=config.args,
        storage_path=storage,
        name=config.name,
        max_failures=config.run.max_failures,
        address=address,
        env=config.run.env,
        mlflow=config.mlflow is not None,
        num_workers=config.scaling.num_workers,  # type: ignore[arg-type]  # a script's is one number
        scaling=scaling_config(config.scaling),
        run_name=config.mlflow.run_name if config.mlflow is not None else None,
        replaces=there.replaced,
    )
    return run_script(call)

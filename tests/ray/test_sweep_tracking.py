"""A sweep against a real MLflow server: a run of its own, and under it a run a trial with all that the trial logged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from ray import tune as ray_tune
from ray.train import ScalingConfig

from raytrainer import RayTrainer, RayTrainingArguments
from raytrainer.checkpoints import Store
from raytrainer.config.sweep import load_sweep
from raytrainer.errors import UserError
from raytrainer.launch.tune import tune
from raytrainer.sweep.record_files import read_trials
from raytrainer.sweep.records import Trial
from tests.ray.recipes import COMMON, classify_words
from tests.unit.test_tracking import serving
from tests.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

RATE, DECAY = "training.learning_rate", "training.weight_decay"
STEPS = 16


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("mlflow")) as server:
        yield server.uri


def write_sweep(folder: Path, uri: str, rates: list[float], scheduler: Any = "fifo", **data: Any) -> str:
    """Write a sweep of trials that log every step; its name is the folder's."""
    points = [{RATE: rate, DECAY: 0.1} for rate in rates]
    config = {
        "name": folder.name,
        "trainer": "tests.ray.watched_module:build",
        "data": {"notes": str(folder / "notes"), **data},
        "training": {
            **{"max_steps": STEPS, "per_device_train_batch_size": 8, "logging_steps": 1},
            **{"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 4},
        },
        "scaling": {"num_workers": 1},
        "run": {"storage_path": str(folder / "runs")},
        "mlflow": {"tracking_uri": uri, "experiment": folder.name, "tags": {"team": "words"}},
        "search_space": {RATE: {"loguniform": [1e-6, 1e-1]}, DECAY: {"uniform": [0.0, 0.3]}},
        "tune": {
            **{"metric": "eval_loss", "mode": "min", "num_samples": len(rates), "points": points},
            "scheduler": scheduler,
        },
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def tree(uri: str, experiment: str) -> tuple[Run, dict[str, Run]]:
    """Return the sweep's run and those under it, by name."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {parent.info.run_id}
    assert len({run.info.run_name for run in children}) == len(children)
    return parent, {str(run.info.run_name): run for run in children}


def history(uri: str, run: Run, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in MlflowClient(uri).get_metric_history(run.info.run_id, name)]


def steps(uri: str, run: Run, name: str = "loss") -> list[int]:
    return [step for step, _ in history(uri, run, name)]


def common_steps(uri: str, experiment: str) -> set[int]:
    """Return the steps that both trials of a sweep have logged so far."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id]) if found else []
    logged = [set(steps(uri, run)) for run in runs if "mlflow.parentRunId" in run.data.tags]
    return set.intersection(*logged) if len(logged) == 2 else set()


def trials_of(folder: Path) -> list[Trial]:
    return read_trials(Store(str(folder / "runs" / folder.name)))


def evaluations(trial: Trial) -> list[tuple[int, float]]:
    return [(entry.step, entry.metrics["eval_loss"]) for entry in trial.record.history]


def test_a_sweep_is_a_run_with_a_run_for_each_trial(tmp_path: Path, uri: str) -> None:
    asha = {"asha": {"grace_period": 4, "reduction_factor": 2, "max_t": STEPS}}
    # The last fails before the first rung: whether it is stopped there depends on who of the others came first.
    path = write_sweep(tmp_path, uri, [1e-2, 9e-3, 1e-5, 1e-2], asha, victim="00004", step=2)
    registered = [f"mlflow.register={tmp_path.name}", "mlflow.alias=best"]
    tune(load_sweep(path, ["tune.max_concurrent_trials=2", *registered]))
    parent, children = tree(uri, tmp_path.name)
    trials = trials_of(tmp_path)
    assert sorted(children) == [f"{tmp_path.name}-{number:05d}" for number in (1, 2, 3, 4)]
    assert {trial.state for trial in trials} == {"finished", "stopped", "failed"}
    for trial, (_, run) in zip(trials, sorted(children.items()), strict=True):
        tags, params = run.data.tags, run.data.params
        assert (tags["trial"], tags["trial_id"], tags["origin"]) == (str(trial.record.number), trial.record.id, "known")
        assert (tags["team"], params[RATE]) == ("words", str(trial.record.values[RATE]))
        # What the trainer was given, beside what was searched.
        assert params["max_steps"] == str(STEPS)
        assert history(uri, run, "eval_loss") == evaluations(trial)
        if trial.state == "failed":
            assert run.info.status == "FAILED" and tags["raytrainer.error"]
            continue
        assert run.info.status == "FINISHED"
        last = trial.record.history[-1].step
        assert steps(uri, run) == list(range(1, last + 1))
        stopped = (tags.get("stopped_early"), tags.get("stopped_early_step"))
        assert stopped == (("asha", str(last)) if trial.state == "stopped" else (None, None))

    assert parent.info.status == "FINISHED" and parent.info.run_name == tmp_path.name
    best = min((t for t in trials if t.state != "failed"), key=lambda t: evaluations(t)[-1][1])
    assert parent.data.tags["best_trial"] == f"{tmp_path.name}-{best.record.number:05d}"
    assert parent.data.tags[f"best.{RATE}"] == str(best.record.values[RATE])
    assert min(value for _, value in history(uri, parent, "best_eval_loss")) == evaluations(best)[-1][1]
    assert parent.data.params["tune.scheduler.asha.grace_period"] == "4"
    assert parent.data.params[f"search_space.{DECAY}.uniform"] == "[0.0, 0.3]"
    files = {file.path for file in MlflowClient(uri).list_artifacts(parent.info.run_id)}
    assert {"config.yaml", "results.csv", "results.json", "best.yaml", "report.html"} <= files
    version = MlflowClient(uri).get_model_version_by_alias(tmp_path.name, "best")
    assert version.run_id == children[f"{tmp_path.name}-{best.record.number:05d}"].info.run_id


@pytest.mark.slow
def test_a_trial_that_is_tried_again_logs_no_step_twice(tmp_path: Path, uri: str) -> None:
    path = write_sweep(tmp_path, uri, [1e-2], victim="00001", step=10)
    tune(load_sweep(path, ["tune.max_failures=1"]))
    (trial,) = trials_of(tmp_path)
    _, children = tree(uri, tmp_path.name)
    (run,) = children.values()
    assert (trial.record.attempts, run.info.status) == (2, "FINISHED")
    assert steps(uri, run) == list(range(1, STEPS + 1))
    assert history(uri, run, "eval_loss") == evaluations(trial)


@pytest.mark.slow
def test_what_population_based_training_changes_is_a_metric(tmp_path: Path, uri: str) -> None:
    pbt = {"pbt": {"perturbation_interval": 8, "quantile_fraction": 0.34, "synch": True}}
    tune(load_sweep(write_sweep(tmp_path, uri, [1e-2, 1e-5, 1e-6], pbt)))
    _, children = tree(uri, tmp_path.name)
    clones = 0
    for trial, (_, run) in zip(trials_of(tmp_path), sorted(children.items()), strict=True):
        assert run.info.status == "FINISHED"
        assert run.data.params[RATE] == str(trial.record.values[RATE])
        assert steps(uri, run) == list(range(1, STEPS + 1))
        changes = [(change.step, change.values[RATE]) for change in trial.record.changes]
        begun = [(0, trial.record.values[RATE])] if changes else []
        assert history(uri, run, RATE) == begun + changes
        if trial.record.changes:
            last = trial.record.changes[-1]
            assert run.data.tags["clone_of"] == f"{tmp_path.name}-{last.donor_number:05d} at step {last.step}"
        clones += len(changes)
    assert clones


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_resumed_goes_on_with_the_same_runs(tmp_path: Path, uri: str, end: signal.Signals) -> None:
    path = write_sweep(tmp_path, uri, [1e-2, 1e-3], hold=6)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    program = [sys.executable, "-m", "raytrainer"]
    driver = subprocess.Popen([*program, "tune", path], env=environment, cwd=tmp_path, start_new_session=True)
    notes = tmp_path / "notes"
    try:
        # Both stand in their sixth step, and all that they had told at their first evaluation is on the server.
        until(lambda: {4} <= common_steps(uri, tmp_path.name), "both trials")
    finally:
        driver.send_signal(end)
        (notes / "gone").touch()
        status = driver.wait()
    before = tree(uri, tmp_path.name)
    if end == signal.SIGINT:
        assert status == 130
        assert {run.info.status for run in (before[0], *before[1].values())} == {"KILLED"}
    again = [*program, "resume", str(tmp_path / "runs" / tmp_path.name)]
    assert subprocess.run(again, env=environment, cwd=tmp_path, timeout=300).returncode == 0
    parent, children = tree(uri, tmp_path.name)
    assert parent.info.run_id == before[0].info.run_id
    assert {run.info.run_id for run in children.values()} == {run.info.run_id for run in before[1].values()}
    assert {run.info.status for run in (parent, *children.values())} == {"FINISHED"}
    for trial, (_, run) in zip(trials_of(tmp_path), sorted(children.items()), strict=True):
        assert steps(uri, run) == list(range(1, STEPS + 1))
        assert history(uri, run, "eval_loss") == evaluations(trial)


@pytest.mark.slow
def test_a_hyperparameter_search_is_recorded(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    words = classify_words()
    model = words.pop("model")
    arguments = RayTrainingArguments(
        tmp_path / "out", **{**COMMON, "max_steps": 4, "logging_steps": 1, "report_to": "mlflow"}
    )
    trainer: Any = RayTrainer(
        args=arguments, model_init=lambda _: model, scaling_config=ScalingConfig(num_workers=2), **words
    )
    best = trainer.hyperparameter_search(lambda _: {"learning_rate": ray_tune.loguniform(1e-4, 1e-2)}, n_trials=2)
    parent, children = tree(uri, tmp_path.name)
    assert sorted(children) == ["search-00001", "search-00002"]
    assert {run.info.status for run in (parent, *children.values())} == {"FINISHED"}
    for run in children.values():
        assert steps(uri, run) == [1, 2, 3, 4]
    winner = children[f"search-{best.run_id}"]
    assert parent.data.tags["best_trial"] == winner.info.run_name
    assert winner.data.params["learning_rate"] == str(best.hyperparameters["learning_rate"])


def test_a_store_that_cannot_be_used_is_an_error_before_the_first_trial(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, "http://127.0.0.1:9", [1e-2])
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9"):
        tune(load_sweep(path))
    assert not (tmp_path / "notes").exists()

"""Sweeps in which processes die: every trial ends as if nothing had happened, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raytrainer.checkpoints import Store
from raytrainer.config.sweep import load_sweep
from raytrainer.launch.tune import tune
from raytrainer.sweep.record_files import read_sweep, read_trials
from raytrainer.sweep.records import Trial
from tests.ray.faults import nothing_is_held
from tests.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

BASE = """
name: sweep
trainer: tests.ray.watched_module:build
training: {{max_steps: 16, per_device_train_batch_size: 8, eval_strategy: steps, eval_steps: 4, logging_steps: 4,
  save_strategy: steps, save_steps: 4, dataloader_num_workers: 0}}
data: {{notes: {folder}/notes}}
scaling: {{num_workers: {workers}}}
run: {{storage_path: {folder}/runs}}
mlflow: null
search_space: {{training.learning_rate: {{loguniform: [1.0e-4, 1.0e-2]}}}}
tune: {{metric: eval_loss, mode: min, num_samples: 2, max_failures: 1}}
"""


def write_sweep(folder: Path, workers: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sweep.yaml"
    path.write_text(BASE.format(folder=folder, workers=workers))
    return str(path)


def run(folder: Path, workers: int, *settings: str) -> list[Trial]:
    tune(load_sweep(write_sweep(folder, workers), settings))
    store = Store(str(folder / "runs" / "sweep"))
    assert read_sweep(store).state == "finished"
    return read_trials(store)


def figures(trials: list[Trial]) -> list[list[tuple[int, float, float]]]:
    """Return what does not depend on the clock: every evaluation of every trial, with its learning rate."""
    return [
        [(e.step, e.metrics["eval_loss"], t.record.values["training.learning_rate"]) for e in t.record.history]
        for t in trials
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> list[Trial]:
    return run(tmp_path_factory.mktemp("undisturbed"), 1)


def test_a_killed_trial_goes_on_from_its_checkpoint(tmp_path: Path, undisturbed: list[Trial]) -> None:
    trials = run(tmp_path, 1, "data.victim='00002'", "data.step=10")
    assert (tmp_path / "notes" / "killed").exists()
    assert [trial.record.attempts for trial in trials] == [1, 2]
    assert [trial.state for trial in trials] == ["finished"] * 2
    assert figures(trials) == figures(undisturbed)
    begun = [json.loads(file.read_text().splitlines()[0])["step"] for file in tmp_path.glob("notes/00002-*.jsonl")]
    assert sorted(begun) == [0, 8]
    until(nothing_is_held, "all that the trials held")


@pytest.mark.slow
def test_a_trial_whose_worker_is_killed_goes_on(tmp_path: Path) -> None:
    alone = run(tmp_path / "alone", 2, "tune.num_samples=1")
    (trial,) = run(tmp_path / "killed", 2, "tune.num_samples=1", "data.victim='00001'", "data.step=10", "data.rank=1")
    assert (tmp_path / "killed" / "notes" / "killed").exists()
    assert (trial.state, trial.record.attempts, trial.record.workers) == ("finished", 2, 2)
    assert figures([trial]) == figures(alone)
    until(nothing_is_held, "all that the trials held")


def test_stopped_trials_of_several_workers_release_everything(tmp_path: Path) -> None:
    """Four trials of two workers on a cluster that has room for two of them; two are stopped at their first rung."""
    points = [{"training.learning_rate": rate} for rate in (1e-2, 9e-3, 1e-4, 1.1e-4)]
    settings = ["tune.num_samples=4", f"tune.points={json.dumps(points)}", "training.save_strategy='no'"]
    settings.append("tune.scheduler={asha: {grace_period: 4, reduction_factor: 2, max_t: 16}}")
    trials = run(tmp_path, 2, *settings)
    assert len(trials) == 4
    assert {trial.state for trial in trials} == {"finished", "stopped"}
    assert sum(trial.state == "stopped" for trial in trials) >= 2
    assert all(len(trial.record.history) < 4 for trial in trials if trial.state == "stopped")
    until(nothing_is_held, "all that the trials held")


@pytest.mark.slow
def test_the_trials_of_a_node_that_dies_go_on_elsewhere(tmp_path: Path, undisturbed: list[Trial]) -> None:
    program = [sys.executable, "-m", "tests.ray.sweep_on_nodes", write_sweep(tmp_path, 1), str(tmp_path / "notes")]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    subprocess.run(program, env=environment, cwd=os.getcwd(), timeout=300, check=True)
    trials = read_trials(Store(str(tmp_path / "runs" / "sweep")))
    assert [trial.state for trial in trials] == ["finished"] * 2
    assert sorted(trial.record.attempts for trial in trials) == [1, 2]
    assert figures(trials) == figures(undisturbed)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "raytrainer", *arguments]


def test_a_sweep_survives_its_driver(tmp_path: Path, undisturbed: list[Trial]) -> None:
    path = write_sweep(tmp_path, 1)
    settings = ["tune.max_concurrent_trials=1", "tune.max_failures=0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    driver = subprocess.Popen(command("tune", path, *settings), env=environment, cwd=os.getcwd())
    folder = tmp_path / "runs" / "sweep"
    try:
        until(lambda: any("step" in f.read_text() for f in tmp_path.glob("notes/00002-*.jsonl")), "the second trial")
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    before = list(tmp_path.glob("notes/00001-*.jsonl"))
    done = subprocess.run(command("resume", str(folder)), env=environment, cwd=os.getcwd(), text=True, timeout=300)
    assert done.returncode == 0
    trials = read_trials(Store(str(folder)))
    assert [trial.state for trial in trials] == ["finished"] * 2
    assert figures(trials) == figures(undisturbed)
    # What was finished is not trained again.
    assert list(tmp_path.glob("notes/00001-*.jsonl")) == before
    assert read_sweep(Store(str(folder))).state == "finished"

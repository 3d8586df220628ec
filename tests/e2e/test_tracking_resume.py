"""A run whose driver is killed, and that is gone on with, is one run in MLflow, with every step once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.e2e.test_interrupt import Program
from tests.e2e.words import command_line, environment, write_words
from tests.unit.test_tracking import empty_database
from tests.waiting import until

__all__ = ["empty_database"]

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

# Long enough for any of the tests; each is stopped.
_STEPS = {"max_steps": 1_000_000, "save_steps": 25, "logging_steps": 1, "eval_strategy": "no"}
_PYTHON = f"""
from ray.train import ScalingConfig
from raytrainer import RayTrainer, RayTrainingArguments
from tests.ray.recipes import COMMON, classify_words

if __name__ == "__main__":
    changes = {{**{_STEPS}, "save_strategy": "steps", "report_to": "mlflow"}}
    arguments = RayTrainingArguments("runs/words", **{{**COMMON, **changes}})
    RayTrainer(args=arguments, scaling_config=ScalingConfig(num_workers=1), **classify_words()).train()
"""
_SCRIPT = f"""
from transformers import Trainer, TrainingArguments
from tests.ray.recipes import COMMON, classify_words

if __name__ == "__main__":
    changes = {{**{_STEPS}, "save_strategy": "steps", "report_to": "none"}}
    Trainer(args=TrainingArguments("out", **{{**COMMON, **changes}}), **classify_words()).train()
"""


def _command(way: str, folder: Path) -> list[str]:
    if way == "python":
        (folder / "train.py").write_text(_PYTHON)
        return [sys.executable, "train.py"]
    if way == "script":
        (folder / "script.py").write_text(_SCRIPT)
        return command_line("run", "--storage-path", "runs", "--name", "words", "script.py")
    write_words(folder)
    settings = [f"training.{name}={'no' if value == 'no' else value}" for name, value in _STEPS.items()]
    return command_line("train", "run.yaml", "scaling.num_workers=1", *settings)


@pytest.mark.parametrize(
    "way", ["config", pytest.param("python", marks=pytest.mark.slow), pytest.param("script", marks=pytest.mark.slow)]
)
def test_killed_and_gone_on_with(way: str, tmp_path: Path, empty_database: Path) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    variables = {**environment(), "MLFLOW_TRACKING_URI": uri}

    def runs() -> list[Run]:
        return list(MlflowClient(uri).search_runs(["0"]))

    def the_run() -> Run:
        (run,) = runs()
        return run

    first = Program(_command(way, tmp_path), tmp_path, variables)
    first.until("/1000000  epoch")
    until(lambda: list(tmp_path.rglob("checkpoint-*/manifest.json")))
    until(lambda: any("loss" in run.data.metrics for run in runs()))
    first.process.kill()
    first.ends_with(-9)
    assert the_run().info.status == "RUNNING"

    folder = tmp_path / "runs" / "words"
    synced = Program(command_line("sync", str(folder)), tmp_path, variables)
    assert "complete in mlflow ui" in synced.ends_with(0)
    killed = the_run()
    assert killed.info.status == "KILLED"
    assert "without a word" in killed.data.tags["raytrainer.error"]

    again = Program(command_line("resume", str(folder)), tmp_path, variables)
    again.until("resumed at step ")
    again.until("/1000000  epoch")
    # A script's run is opened while it trains.
    until(lambda: the_run().info.status == "RUNNING")
    going = the_run()
    assert (going.info.status, "raytrainer.error" in going.data.tags) == ("RUNNING", False)
    again.interrupt()
    again.ends_with(130)
    stopped = the_run()
    assert (stopped.info.run_id, stopped.info.status) == (killed.info.run_id, "KILLED")
    for name in ("loss", "grad_norm", "learning_rate"):
        logged = sorted(point.step for point in MlflowClient(uri).get_metric_history(stopped.info.run_id, name))
        assert logged == list(range(1, logged[-1] + 1)), name

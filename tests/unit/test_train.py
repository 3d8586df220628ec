"""``raytrainer train`` until its job would start: no Ray, no worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from raytrainer import cluster
from raytrainer.checkpoints import Store
from raytrainer.config.loading import load_config
from raytrainer.errors import Problem, ResourcesError, TrainingFailed
from raytrainer.launch import train as command
from raytrainer.tracking import Tracker
from tests.unit.test_tracking import empty_database, untouched_mlflow

pytestmark = pytest.mark.trains

__all__ = ["empty_database", "untouched_mlflow"]

CONFIG = """
name: mine
trainer: mine:build
training: {max_steps: 2}
run: {storage_path: runs}
mlflow: {tracking_uri: "sqlite:///mlflow.db", experiment: Default}
"""


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "connect", lambda cpus, address: None)
    monkeypatch.setattr(command, "settled", lambda planned: (planned, []))
    monkeypatch.setattr(command, "raise_cheap", lambda planned: None)
    monkeypatch.setattr(command, "send_code", lambda config: None)


def train(*settings: str) -> None:
    Path("run.yaml").write_text(CONFIG)
    loaded = load_config("run.yaml", settings)
    command.train(loaded.config, loaded.secrets)


def recorded() -> list[tuple[str, str]]:
    runs = MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db").search_runs(["0"], order_by=["attributes.start_time"])
    return [(run.data.params["training.max_steps"], run.info.status) for run in runs]


def test_what_cannot_be_sent_leaves_no_run_in_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(config: Any) -> None:
        raise ResourcesError(Problem("folder", ".", "it is too large", "a smaller one"))

    monkeypatch.setattr(command, "send_code", refuses)
    with pytest.raises(ResourcesError):
        train()
    assert recorded() == []


def test_a_start_that_failed_is_recorded_with_its_own_config(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(job: Any, tracker: Tracker, folder: Store) -> None:
        error = TrainingFailed("out of memory")
        tracker.close(error)
        raise error

    monkeypatch.setattr(command, "watched_fit", fails)
    for settings in ((), (), ("training.max_steps=3",)):
        with pytest.raises(TrainingFailed):
            train(*settings)
    # The same config once more is the same run: another try.
    assert recorded() == [("2", "FAILED"), ("3", "FAILED")]

"""A training is one MLflow run, written once, whatever the number of workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from ray.train import ScalingConfig

from raytrainer import RayTrainer, RayTrainingArguments
from tests.ray.recipes import COMMON, classify_words
from tests.ray.test_trainer import Breaks, Overflow

pytestmark = pytest.mark.ray


def test_a_training_is_one_run(tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path / 'record.db'}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "words")
    arguments = RayTrainingArguments(
        tmp_path / "out", run_name="two", **{**COMMON, "report_to": ["mlflow", "tensorboard"]}
    )
    trainer: Any = RayTrainer(args=arguments, scaling_config=ScalingConfig(num_workers=2), **classify_words())
    trainer.train()
    trainer.evaluate()
    history = list(trainer.state.log_history)
    # Of rank 0 alone; what else is asked to report goes on doing so.
    assert len(list((tmp_path / "out").rglob("events.out.tfevents.*"))) == 1
    trainer.add_callback(Breaks)
    with pytest.raises(Overflow):
        trainer.train()

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("words")
    assert experiment is not None
    failed, done = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"])
    assert (done.info.status, failed.info.status) == ("FINISHED", "FAILED")
    assert done.info.run_name == "two"
    assert done.data.params["learning_rate"] == "0.005"
    assert done.data.params["hidden_size"] == "16"
    for name in ("loss", "grad_norm", "eval_loss", "eval_accuracy", "train_loss"):
        written = [(point.step, point.value) for point in client.get_metric_history(done.info.run_id, name)]
        assert written == [(entry["step"], entry[name]) for entry in history if name in entry], name
    # transformers' own callback, on a worker, would write to the store that is MLflow's default there.
    assert not (tmp_path / "mlflow.db").exists()
    assert trainer.mlflow_command == f"mlflow ui --backend-store-uri {uri}"

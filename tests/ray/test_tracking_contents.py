"""What an MLflow run is made of, against a real server."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import ray
import yaml
from mlflow import MlflowClient
from transformers import BertConfig, BertForSequenceClassification

from raytrainer.checkpoints import Store
from raytrainer.config.section import MLflow
from raytrainer.errors import ArgumentsError
from raytrainer.tracking import Target, open_tracker
from raytrainer.tracking_model import put_model
from tests.e2e.words import raytrainer, write_words
from tests.unit.test_tracking import serving

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("mlflow")) as server:
        yield server.uri


def test_all_that_a_run_of_a_config_has(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    asked = {"tracking_uri": server, "experiment": "words", "register": "kinds", "alias": "champion"}
    write_words(tmp_path, mlflow={**asked, "system_metrics": True, "tags": {"team": "words"}})
    raytrainer("train", "run.yaml", folder=tmp_path)
    outcome = json.loads((tmp_path / "runs/words/outcome.json").read_text())
    client = MlflowClient(server)
    run = client.get_run(outcome["mlflow"]["run_id"])

    tags, params = run.data.tags, run.data.params
    assert (tags["team"], tags["raytrainer.workers"]) == ("words", "2")
    assert tags["raytrainer.precision"] == outcome["precision"]
    assert tags["raytrainer.model"] == outcome["model"] and tags["raytrainer.folder"] == outcome["folder"]
    assert tags["raytrainer.python"] == sys.version.split()[0] and tags["raytrainer.ray"] == ray.__version__
    assert json.loads(tags["raytrainer.cluster"])["CPU"] == 4 and tags["raytrainer.hosts"].startswith("1 x ")
    assert tags["raytrainer.ray_job"]
    # The config's leaves, and what transformers made of them.
    assert params["training.learning_rate"] == params["learning_rate"] == "0.01"
    assert params["scaling.num_workers"] == "2" and params["data.train"] == "train.jsonl"

    def steps(name: str) -> list[int]:
        points = client.get_metric_history(run.info.run_id, name)
        assert all(math.isfinite(point.value) and point.value >= 0 for point in points)
        return [point.step for point in points]

    for name in ("samples_per_second", "tokens_per_second", "memory_peak_bytes"):
        assert steps(f"raytrainer/{name}") == [10, 20, 30, 40], name
    assert steps("raytrainer/save_stalled_s") == [20, 40]
    seconds = steps("system/node_0/cpu_utilization_percentage")
    assert len(seconds) > 2 and seconds == sorted(seconds)

    data = {(each.dataset.name, each.tags[0].value): each.dataset for each in run.inputs.dataset_inputs}
    assert {key: json.loads(each.profile)["num_rows"] for key, each in data.items()} == {
        ("train.jsonl", "training"): 400,
        ("eval.jsonl", "evaluation"): 51,
    }
    names = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert names == {"config.yaml", "outcome.json"}

    version = client.get_model_version_by_alias("kinds", "champion")
    assert (version.run_id, version.version) == (run.info.run_id, "1")
    assert float(version.tags["eval_loss"]) == outcome["metrics"]["eval_loss"]
    mlflow.set_tracking_uri(server)
    try:
        answer = mlflow.transformers.load_model("models:/kinds@champion")("horse cow")
    finally:
        mlflow.set_tracking_uri(None)  # what it was before may be a default, which it would leave in the environment
    assert answer[0]["label"] == "animal"


def test_a_model_goes_there_once(tmp_path: Path, server: str) -> None:
    BertForSequenceClassification(
        BertConfig(hidden_size=4, num_attention_heads=1, num_hidden_layers=1)
    ).save_pretrained(tmp_path / "model")
    tracker = open_tracker(Target(server, experiment_name="once"), Store(str(tmp_path / "run")))
    put_model(tracker, str(tmp_path / "model"), MLflow.model_validate({"register": "once"}), ("eval_loss", 0.5))
    tracker.close(None)
    client = MlflowClient(server)
    assert [version.version for version in client.search_model_versions("name = 'once'")] == ["1"]

    # All of the record once more, as after a crash that came between the sending and the note of it.
    tracker.run.journal.note(written=0)
    again = open_tracker(Target(server, experiment_name="once"), Store(str(tmp_path / "run")), again=True)
    again.close(None)
    assert again.run_id == tracker.run_id
    assert [version.version for version in client.search_model_versions("name = 'once'")] == ["1"]
    assert len(client.search_logged_models([str(tracker.experiment_id)])) == 1


def test_a_model_that_is_not_transformers_own_is_refused(tmp_path: Path, server: str) -> None:
    (tmp_path / "own.py").write_text(
        "from tests.ray.recipes import classify_words\n"
        "from transformers import BertForSequenceClassification, Trainer\n"
        "class Mine(BertForSequenceClassification): pass\n"
        "def build(arguments):\n"
        "    parts = classify_words()\n"
        "    return Trainer(args=arguments, **{**parts, 'model': Mine(parts['model'].config)})\n"
    )
    config = {"name": "own", "trainer": "own:build", "training": {"max_steps": 2}}
    config["mlflow"] = {"tracking_uri": server, "experiment": "own", "register": "mine"}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    said = raytrainer("train", "run.yaml", folder=tmp_path, status=2)
    assert "mlflow.register = 'mine': the model is a own.Mine" in said

    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Mine"]}))
    tracker = open_tracker(Target(server, experiment_name="own"), Store(str(tmp_path / "run")))
    with pytest.raises(ArgumentsError, match="Mine, which is not transformers' own"):
        put_model(tracker, str(tmp_path), MLflow(log_model=True), None)
    tracker.close(None)

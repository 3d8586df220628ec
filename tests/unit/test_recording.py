"""What a config run tells MLflow of its config and its data."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytrainer.checkpoints import Store
from raytrainer.config.loading import load_config
from raytrainer.launch.outcome import Told, summary
from raytrainer.launch.recording import describe, score
from raytrainer.tracking import Tracker
from raytrainer.tracking_entry import Entry
from raytrainer.tracking_journal import new_journal
from raytrainer.tracking_run import TrackedRun
from raytrainer.tracking_target import Target
from raytrainer.tracking_writer import Writer

OWN = """
name: own
trainer: own:build
model: {auth: "${SERVICE_API_KEY}", cost: $$5}
data: {clients: [{api_key: abc, name: anna}]}
"""
TASK = """
name: task
task: text-classification
model: {name: tiny}
data: {train: "https://store/train.csv?sig=${SAS_TOKEN}", eval: 0.1}
"""


def test_many_files_are_named_by_the_first(tmp_path: Path) -> None:
    files = ", ".join(f"data/part-{number:05d}.parquet" for number in range(32))
    tracker, _ = described(TASK.replace('"https://store/train.csv?sig=${SAS_TOKEN}"', f"[{files}]"), tmp_path)
    assert tracker.sources["training"] == ("part-00000.parquet +31", files)


def test_what_is_no_number_is_neither_shown_nor_a_score(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(OWN.replace("${SERVICE_API_KEY}", "none"))
    config = load_config(str(tmp_path / "run.yaml")).config
    metrics = {"eval_loss": None, "eval_confusion": [[1, 0], [0, 1]], "eval_accuracy": 0.5}
    told = Told("runs/own", 1, metrics, None, None, "runs/own/model", None, "fp32", "", None)
    assert summary(told, None).splitlines()[0] == "eval_accuracy: 0.5"
    assert score(config, metrics) is None
    config.training["metric_for_best_model"] = "accuracy"
    assert score(config, metrics) == ("eval_accuracy", 0.5)


class Kept(Writer):
    """A writer that only keeps what it is given."""

    def __init__(self) -> None:
        super().__init__("")
        self.entries: list[Entry] = []

    def put(self, run: TrackedRun, entry: Entry) -> None:
        self.entries.append(entry)


def described(text: str, folder: Path) -> tuple[Tracker, list[Entry]]:
    (folder / "run.yaml").write_text(text)
    loaded = load_config(str(folder / "run.yaml"))
    target = Target("sqlite:///mlflow.db")
    writer = Kept()
    tracker = Tracker(TrackedRun(target, new_journal(Store(str(folder)), target)), writer)
    describe(tracker, loaded.config, loaded.yaml())
    return tracker, writer.entries


def test_a_secret_that_a_variable_brings_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_API_KEY", "s3cret")
    _, entries = described(OWN, tmp_path)
    assert "s3cret" not in str(entries) and "abc" not in str(entries)
    (params,) = [entry.params for entry in entries if entry.params]
    assert params["model.auth"] == "${SERVICE_API_KEY}"
    assert params["data.clients"] == "[{'api_key': '${API_KEY}', 'name': 'anna'}]"


def test_the_data_is_told_without_the_secret_in_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAS_TOKEN", "s3cret")
    tracker, entries = described(TASK, tmp_path)
    assert "s3cret" not in f"{entries}{tracker.sources}"
    source = ("train.csv", "https://store/train.csv?sig=${SAS_TOKEN}")
    assert tracker.sources == {"training": source, "evaluation": source}

"""All of a run's life in an object store, as a user meets it: a worker dies, the program dies, it is gone on with."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from raytrainer.checkpoints import Store
from tests.e2e.words import ROOT, command_line, raytrainer, write_words
from tests.ray.recipes import without_times
from tests.ray.s3 import S3Server

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PAGE = (ROOT / "docs/configs.md").read_text()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server that this process, and the programs it starts, find by the environment, as those find AWS."""
    with S3Server() as server:
        server.bucket("bucket")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        yield server


class Command:
    """A command with a Ray of its own, as on a machine that has none."""

    def __init__(self, *arguments: str, folder: Path) -> None:
        self._output = folder / f"{arguments[0]}.output"
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                command_line(*arguments),
                cwd=folder,
                env={**environment, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def ends(self) -> str:
        """Return what it printed."""
        try:
            self.status = self._process.wait(300)
        finally:
            self.die()
        return self._output.read_text()

    def die(self, name: str = "") -> None:
        """Kill its processes with this name; without one the command with all that it started, Ray among it."""
        everything = [self._process] if not name else []
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(self._process.pid).children(recursive=True)
            everything += [process for process in below if name in process.name()][: 1 if name else None]
        for process in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


class WhenWritten:
    """Does something once, when a file is about to be written to the object store."""

    def __init__(self, file: str, act: Callable[[], None]) -> None:
        self._file, self._act, self._lock, self.done = file, act, threading.Lock(), False

    def __call__(self, method: str, path: str) -> None:
        with self._lock:
            if not self.done and method in ("PUT", "POST") and path.endswith(self._file):
                self.done = True
                self._act()


def left(run: Store, folder: Path) -> dict[str, Any]:
    """Return what a run left, without what tells when and where."""
    run.fetch_folder("model", folder)
    outcome = json.loads(run.read("outcome.json"))
    state = json.loads(run.read("trainer_state.json"))
    return {
        "metrics": without_times(outcome["metrics"]),
        "best": outcome["best_checkpoint"].rpartition("/")[2],
        "history": [without_times(entry) for entry in state["log_history"]],
        "predictions": run.read("predictions.jsonl"),
        "weights": {name: tensor.tolist() for name, tensor in load_file(folder / "model.safetensors").items()},
    }


def test_a_run_in_s3_outlives_a_worker_and_its_program(
    tmp_path: Path, s3: S3Server, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_words(tmp_path, mlflow=None, precision="fp32")
    config = yaml.safe_load((tmp_path / "run.yaml").read_text())
    config["training"] |= {"load_best_model_at_end": True, "save_steps": 10, "eval_steps": 10}
    # So that the best one is not the last one.
    config["training"] |= {"metric_for_best_model": "eval_loss", "greater_is_better": True}
    config["run"] = {"storage_path": "s3://bucket/runs", "max_failures": 1}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))

    command = Command("train", "run.yaml", folder=tmp_path)
    s3.before = worker_dies = WhenWritten("checkpoint-20/manifest.json", lambda: command.die("RayTrainWorker"))
    program_dies = WhenWritten("checkpoint-30/manifest.json", command.die)

    def both(method: str, path: str) -> None:
        worker_dies(method, path)
        program_dies(method, path)

    s3.before = both
    printed = command.ends()
    assert worker_dies.done and program_dies.done, printed
    assert command.status == -9, printed
    assert re.search(r"resumed at step [12]0 from s3://bucket/runs/words/checkpoints/", printed), printed
    run = Store("s3://bucket/runs/words")
    assert json.loads(run.read("run.json"))["state"] == "running"

    command = Command("resume", "s3://bucket/runs/words", folder=tmp_path)
    printed = command.ends()
    assert command.status == 0, printed
    assert re.search(r"resumed at step [23]0 from s3://", printed), printed

    # Undisturbed, on another Ray, in a folder.
    raytrainer("train", "run.yaml", "run.storage_path=calm", folder=tmp_path)
    undisturbed = left(Store(str(tmp_path / "calm" / "words")), tmp_path / "calm-model")
    assert left(run, tmp_path / "fetched") == undisturbed
    assert undisturbed["best"] != "checkpoint-40", undisturbed["history"]

    # The best model, as the page says it is fetched.
    (fetch,) = re.findall(r"^mkdir model .*pyarrow.*$", PAGE, re.MULTILINE)
    fetch = fetch.replace("dates/model", "words/model").replace("python", sys.executable)
    subprocess.run(fetch, shell=True, cwd=tmp_path, check=True)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    rows = [json.loads(line) for line in (tmp_path / "eval.jsonl").read_text().splitlines()]
    with torch.inference_mode():
        logits = model(**tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")).logits
    labels = [model.config.id2label[number] for number in logits.argmax(-1).tolist()]
    right = sum(label == row["label"] for label, row in zip(labels, rows, strict=True)) / len(rows)
    evaluations = {entry["step"]: entry for entry in undisturbed["history"] if "eval_accuracy" in entry}
    best = evaluations[int(undisturbed["best"].rpartition("-")[2])]
    assert right == pytest.approx(best["eval_accuracy"]) == pytest.approx(undisturbed["metrics"]["eval_accuracy"])
    # Nothing of it is on this machine's side.
    assert not (tmp_path / "runs").exists() and not list(tmp_path.glob("s3*"))


SWEEP: dict[str, Any] = {
    "base": "run.yaml",
    "scaling": {"num_workers": 1},
    "search_space": {"training.learning_rate": {"grid": [1.0e-2, 1.0e-3, 1.0e-4]}},
    "tune": {"metric": "eval_loss", "mode": "min", "num_samples": 1, "max_concurrent_trials": 1},
}


def results(sweep: Store) -> list[dict[str, Any]]:
    rows = json.loads(sweep.read("results.json"))["trials"]
    return [{name: row[name] for name in ("trial", "eval_loss", "training.learning_rate", "steps")} for row in rows]


def test_a_sweep_in_s3_outlives_its_program(tmp_path: Path, s3: S3Server, ray_cluster: None) -> None:
    write_words(tmp_path, mlflow=None, run={"storage_path": "s3://bucket/runs"})
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    command = Command("tune", "sweep.yaml", folder=tmp_path)
    s3.before = dies = WhenWritten("trials/00002/checkpoints/checkpoint-20/manifest.json", command.die)
    printed = command.ends()
    assert dies.done and command.status == -9, printed

    command = Command("resume", "s3://bucket/runs/words-sweep", folder=tmp_path)
    printed = command.ends()
    assert command.status == 0, printed
    sweep = Store("s3://bucket/runs/words-sweep")
    raytrainer("tune", "sweep.yaml", "run.storage_path=calm", folder=tmp_path)
    calm = Store(str(tmp_path / "calm" / "words-sweep"))
    assert results(sweep) == results(calm) and len(results(sweep)) == 3
    for name in ("best.yaml", "report.html", "results.csv"):
        assert sweep.read(name)
    for each, folder in ((sweep, tmp_path / "one"), (calm, tmp_path / "other")):
        each.fetch_folder("model", folder)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "other"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

"""The examples as a user runs them, and as the scripts for transformers alone that they come from."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from tests.torchrun import torchrun

pytestmark = pytest.mark.ray
EXAMPLES = Path(__file__).parents[2] / "examples"
BASELINES = {"seq2seq": r"untrained: 0\.0%", "text_classification": r"most frequent language: 1\d\.\d%"}
SHORT = {
    "seq2seq": ["--max-steps=20", "--train-examples=600", "--eval-examples=21"],
    "text_classification": ["--max-steps=16"],
}
# The other one is what ``make demo`` runs.
NAMES = ["text_classification", pytest.param("seq2seq", marks=pytest.mark.slow)]
KINDS = {"seq2seq": AutoModelForSeq2SeqLM, "text_classification": AutoModelForSequenceClassification}


def environment(script: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(EXAMPLES), "MLFLOW_EXPERIMENT_NAME": script.stem}


def run(script: Path, folder: Path, *arguments: str) -> str:
    command = [sys.executable, str(script), "--output-dir=result", *arguments]
    env = environment(script)
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_example(name: str, tmp_path: Path) -> None:
    printed = run(EXAMPLES / f"{name}.py", tmp_path, *SHORT[name])
    # The user is told how far it is, what came out, where the model is and how to look at the run.
    assert re.search(r"step (20/20|16/16)  eval_loss \d", printed)
    assert re.search(r"(exact match|accuracy): +\d+\.\d%", printed)
    assert re.search(BASELINES[name], printed)
    assert re.search(r"model: +result/model", printed)
    assert "mlflow ui --backend-store-uri sqlite:///mlflow.db" in printed
    # What it says is there: the model loads, the run is in the file.
    KINDS[name].from_pretrained(tmp_path / "result" / "model")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FINISHED"
    assert "eval_loss" in logged.data.metrics
    # And nothing else.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "result"]
    assert not (tmp_path / "result" / "ray").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_example_differs_from_a_script_for_transformers_by_import_and_scaling_config(name: str, tmp_path: Path) -> None:
    text = (EXAMPLES / f"{name}.py").read_text()
    undo = [
        (r"from raytrainer import Ray(\w+), Ray(\w+)", r"from transformers import \1, \2"),
        (r"from ray\.train import ScalingConfig\n", ""),
        (r" +scaling_config=ScalingConfig\(.*\),\n", ""),
        (r"\bRay((Seq2Seq)?Train)", r"\1"),
    ]
    for pattern, replacement in undo:
        text, count = re.subn(pattern, replacement, text)
        assert count > 0, pattern
    assert "raytrainer" not in text.split("from __future__")[1]
    script = tmp_path / f"{name}.py"
    script.write_text(text)
    printed = torchrun(script, "--output-dir=result", *SHORT[name], cwd=tmp_path, env=environment(script))
    assert re.search(r"model: +result/model", printed)

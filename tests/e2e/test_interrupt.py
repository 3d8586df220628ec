"""Ctrl-C stops the workers, ends the MLflow run as killed, and the program with a KeyboardInterrupt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

pytestmark = pytest.mark.ray

# The folder of its modules is known to this script alone; the workers have to be told.
SCRIPT = """
import sys

sys.path.insert(0, sys.argv[1])

from ray.train import ScalingConfig
from raytrainer import RayTrainer, RayTrainingArguments
from tests.ray.recipes import COMMON, classify_words

if __name__ == "__main__":
    changes = {"max_steps": 1_000_000, "eval_strategy": "no", "logging_steps": 10, "report_to": "mlflow"}
    arguments = RayTrainingArguments("out", **{**COMMON, **changes})
    RayTrainer(args=arguments, scaling_config=ScalingConfig(num_workers=2), **classify_words()).train()
"""


def test_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    # A session of its own, so that what stays behind can be told by it.
    script = subprocess.Popen(
        [sys.executable, "script.py", root],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert script.stdout is not None
    printed = ""
    for line in script.stdout:
        printed += line
        if "/1000000  epoch" in line:
            break
    assert "/1000000  epoch" in printed, printed
    script.send_signal(signal.SIGINT)
    rest, _ = script.communicate(timeout=120)
    # Not 130: a program that imported ray ends with 1 after any KeyboardInterrupt that nobody catches.
    assert script.returncode == 1, printed + rest
    assert rest.rstrip().endswith("KeyboardInterrupt") or "\nKeyboardInterrupt\n" in rest
    assert "training  interrupted" in rest
    (run,) = MlflowClient(environment["MLFLOW_TRACKING_URI"]).search_runs(["0"])
    assert run.info.status == "KILLED"
    assert run.data.metrics["loss"] > 0

"""Ctrl-C saves and stops with exit status 130, and what it prints goes on; a second one stops at once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from raytrainer.checkpoints import Store
from raytrainer.manifests import damage

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


class Program:
    """A program that runs until it has trained a while, and gets Ctrl-C then."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.printed = ""

    def until(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line
            if text in line:
                return
        raise AssertionError(self.printed)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def ends_with(self, status: int) -> str:
        rest, _ = self.process.communicate(timeout=120)
        assert self.process.returncode == status, self.printed + rest
        return rest


def test_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    root = str(Path(__file__).parents[2])
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    first = Program([sys.executable, "script.py", root], tmp_path, environment)
    first.until("/1000000  epoch")
    first.interrupt()
    rest = first.ends_with(130)
    assert "training  interrupted" in rest and "Traceback" not in rest
    resume = re.search(r"saved at step (\d+)\. To go on: raytrainer (resume \S+)\n", rest)
    assert resume, rest
    step = int(resume[1])
    (manifest,) = Store(str(tmp_path / "out")).manifests()
    assert manifest.step == step
    assert damage(manifest, tmp_path / "out" / f"checkpoint-{step}") is None
    assert json.loads((tmp_path / "out" / "run.json").read_text())["state"] == "interrupted"

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    second = Program([sys.executable, "-m", "raytrainer", *resume[2].split()], elsewhere, environment)
    second.until(f"resumed at step {step} from")
    second.until("/1000000  epoch")
    second.interrupt()
    second.until("Ctrl-C: saving a checkpoint, then stopping")
    second.interrupt()
    second.ends_with(130)

    (run,) = MlflowClient(environment["MLFLOW_TRACKING_URI"]).search_runs(["0"])
    assert run.info.status == "KILLED"
    assert run.data.metrics["loss"] > 0

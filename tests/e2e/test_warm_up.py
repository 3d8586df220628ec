"""A program that has its workers start in its first line, with a Ray of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

PROGRAM = """
import sys
import raytrainer
from ray.train import ScalingConfig

raytrainer.warm_up(ScalingConfig(num_workers=2))

from tests.ray.recipes import COMMON, classify_words
from raytrainer.staying import arrived

arrived()
import ray
assert ray.is_initialized()
args = raytrainer.RayTrainingArguments(sys.argv[1], **COMMON)
trainer = raytrainer.RayTrainer(args=args, scaling_config=ScalingConfig(num_workers=2), **classify_words())
print("trained to step", trainer.train().global_step)
"""


def test_a_program_warms_up_workers_and_trains_on_them(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(tmp_path / "out")]
    known = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=known, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "trained to step 10" in done.stdout
    assert "SIGTERM" not in done.stderr

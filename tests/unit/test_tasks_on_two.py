"""What language tasks measure on two processes is what they measure on one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from tests.torchrun import torchrun
from tests.unit.task_rows import ROWS

pytestmark = pytest.mark.trains

SCRIPT = Path(__file__).parent / "tasks_under_torchrun.py"
PATH = {"PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.mark.parametrize("task", ["causal-lm", "masked-lm", "seq2seq"])
def test_each_example_counts_once_on_two_processes(task: str, tmp_path: Path) -> None:
    rng, row = Random(0), ROWS[task]
    for name, count in (("train", 48), ("test", 11)):
        lines = [json.dumps(row.example(rng)) for _ in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    data = {"train": str(tmp_path / "train.jsonl"), **dict.fromkeys(["eval", "test"], str(tmp_path / "test.jsonl"))}
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({"name": "x", "task": task, "model": row.model, "data": {**data, **row.data}}))

    found: list[dict[str, Any]] = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        # Weights that stay as they are: each process draws the masks of its own training.
        given = {**row.training, "max_steps": 1, "learning_rate": 0.0}
        arguments = [str(config), str(folder), json.dumps({**given, "per_device_eval_batch_size": 4})]
        if processes == 1:
            environment = {**os.environ, **PATH}
            subprocess.run([sys.executable, str(SCRIPT), *arguments], check=True, env=environment, capture_output=True)
        else:
            torchrun(SCRIPT, *arguments, env=PATH)
        found.append(json.loads((folder / "found.json").read_text()))
        assert found[-1]["world"] == processes
        assert len((folder / "run/predictions.jsonl").read_text().splitlines()) == 11
    one, two = (one["metrics"] for one in found)
    for name in (f"{split}_{metric}" for split in ("eval", "test") for metric in row.metrics):
        assert two[name] == pytest.approx(one[name], rel=1e-3), name

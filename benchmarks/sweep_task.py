"""The task of both sweep benchmarks: in which language is a name (examples/text_classification.yaml), made shorter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
METRIC = "eval_accuracy"


def write_base(folder: Path, steps: int, evaluations: int) -> Path:
    """Write data and a run's config into a folder.

    Args:
        folder: where to.
        steps: of a training.
        evaluations: how many of them are followed by an evaluation, evenly, the last one included.

    Returns:
        The config: one worker, nothing saved.
    """
    subprocess.run(
        [sys.executable, "data.py", "names", "--folder", str(folder / "data")], cwd=ROOT / "examples", check=True
    )
    config = yaml.safe_load((ROOT / "examples/text_classification.yaml").read_text())
    for split in ("train", "eval"):
        config["data"][split] = str(folder / f"data/names/{split}.jsonl")
    kept = {key: config["training"][key] for key in ("per_device_train_batch_size", "per_device_eval_batch_size")}
    often = {"max_steps": steps, "eval_strategy": "steps", "eval_steps": steps // evaluations, "logging_steps": steps}
    config["training"] = {
        **kept,
        **often,
        "learning_rate": 3.0e-3,
        "warmup_steps": 0.1,
        "save_strategy": "no",
        "seed": 1,
    }
    config |= {"scaling": {"num_workers": 1}, "run": {"storage_path": str(folder / "runs")}}
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def write_sweep(base: Path, name: str, space: dict[str, Any], tune: dict[str, Any]) -> Path:
    """Write a sweep's config beside its base's."""
    file = base.parent / f"{name}.yaml"
    common = {"metric": METRIC, "mode": "max", "max_concurrent_trials": 2}
    file.write_text(
        yaml.safe_dump(
            {"name": name, "base": str(base), "mlflow": None, "search_space": space, "tune": {**common, **tune}}
        )
    )
    return file


def environment() -> dict[str, str]:
    """One thread a process, and no hub: two trials share two cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def tune(sweep: Path) -> list[dict[str, Any]]:
    """Run ``raytrainer tune`` on a sweep's config, and return its trials' records."""
    log = sweep.with_suffix(".log")
    with log.open("w") as file:
        command = [sys.executable, "-m", "raytrainer", "tune", str(sweep)]
        done = subprocess.run(command, cwd=ROOT, env=environment(), stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{log.read_text()[-4000:]}")
    trials = sorted((sweep.parent / "runs" / sweep.stem / "trials").glob("*/trial.json"))
    return [json.loads(trial.read_text()) for trial in trials]

"""raytrainer tune on an unmodified script: each trial's values are flags on its command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raytrainer.checkpoints import Store
from raytrainer.sweep.record_files import read_trials
from tests.e2e.test_run import SCRIPTS, TRAINING, data
from tests.e2e.words import raytrainer

__all__ = ["data"]
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

# The last one begins when a better one has ended, so that it is stopped at its first rung.
RATES = [3e-2, 1e-2, 1e-4]


def sweep_of(data: Path) -> dict[str, Any]:
    arguments = {**TRAINING, "max_steps": 12, "do_predict": False, "save_strategy": "no", "output_dir": "out"}
    arguments.pop("save_steps", None)
    flags = [f"--{name}={value}" for name, value in arguments.items() if name != "learning_rate"]
    flags += [f"--{split}_file={data / f'{split}.json'}" for split in ("train", "validation")]
    return {
        "name": "glue",
        "script": str(SCRIPTS / "run_glue.py"),
        "args": flags,
        "mlflow": None,
        # Two trials at a time have all that the cluster has.
        "scaling": {"num_workers": 1, "resources_per_worker": {"CPU": 2}},
        "search_space": {"training.learning_rate": {"loguniform": [1e-4, 1e-1]}},
        "tune": {
            "metric": "eval_loss",
            "mode": "min",
            "num_samples": len(RATES),
            "points": [{"training.learning_rate": rate} for rate in RATES],
            "max_concurrent_trials": 2,
            "scheduler": {"asha": {"grace_period": 4, "reduction_factor": 3, "max_t": 12}},
        },
    }


def test_values_are_flags(tmp_path: Path, data: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep_of(data)))
    raytrainer("tune", "sweep.yaml", folder=tmp_path)
    trials = read_trials(Store(str(tmp_path / "runs" / "glue")))
    assert [trial.record.arguments["learning_rate"] for trial in trials] == RATES
    assert {trial.state for trial in trials} <= {"finished", "stopped"}
    assert (trials[-1].state, trials[-1].record.history[-1].step) == ("stopped", 4)
    # Trials that run at the same time do not share what the script writes.
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "runs" / "glue" / "trials" / "00001" / "output").is_dir()
    # The best one's checkpoint is in its place, and its model is the sweep's.
    (kept,) = [trial for trial in trials if trial.checkpoints]
    assert kept.record.history[-1].metrics["eval_loss"] == min(
        t.record.history[-1].metrics["eval_loss"] for t in trials
    )
    assert (tmp_path / "runs" / "glue" / "model" / "model.safetensors").exists()
    best = yaml.safe_load((tmp_path / "runs" / "glue" / "best.yaml").read_text())
    flag = best["args"].index("--learning_rate")
    assert float(best["args"][flag + 1]) == kept.record.values["training.learning_rate"]

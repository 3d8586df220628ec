"""What a sweep leaves of its best trial, also where it was killed on the way."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from raytrainer.checkpoints import Store
from raytrainer.config.section import MLflow
from raytrainer.config.sweep import SweepLoaded, load_sweep
from raytrainer.launch import tune
from raytrainer.launch.config_study import ConfigStudy
from raytrainer.launch.existing import Existing, what_is_there
from raytrainer.launch.plan import job_of
from raytrainer.launch.winner import refit_config
from raytrainer.manifests import Manifest
from raytrainer.run_record import RunRecord, write_record
from raytrainer.sweep.space import Space
from raytrainer.tracking_entry import Entry
from raytrainer.tracking_model import put_model
from tests.unit.config_rows import config
from tests.unit.sweep_rows import EVALUATED, SWEEP

RATE = "training.learning_rate"


class Run:
    """A run in MLflow that notes what it is given."""

    def __init__(self, key: str = "k1") -> None:
        self.run = SimpleNamespace(key=key)
        self.entries: list[Entry] = []
        self.add = self.entries.append


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"architectures": ["BertForMaskedLM"]}))
    return str(tmp_path / "model")


def load(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> SweepLoaded:
    monkeypatch.chdir(folder)
    Path("run.yaml").write_text(config(EVALUATED))
    said = yaml.safe_load(config(SWEEP))
    said["tune"] |= settings
    Path("sweep.yaml").write_text(yaml.safe_dump({**said, "mlflow": {"register": "words"}}))
    return load_sweep("sweep.yaml", ())


def test_a_model_that_is_put_again_is_the_same_one(model: str) -> None:
    """A sweep that was killed concludes once more; it would be another version, and the alias would move."""
    run: Any = Run()
    for _ in range(2):
        put_model(run, model, MLflow.model_validate({"register": "words"}), ("eval_loss", 0.5))
    other: Any = Run("k2")
    put_model(other, model, MLflow.model_validate({"register": "words"}), ("eval_loss", 0.5))
    first, again, another = (entry.model for entry in (*run.entries, *other.entries))
    assert first is not None and another is not None
    assert first == again and first.key != another.key


@pytest.mark.parametrize("refit", [False, True])
def test_of_a_sweep_with_a_refit_the_refit_is_registered_and_nothing_else(
    refit: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    sweep, run = load(tmp_path, monkeypatch, refit=refit), Run()
    best = SimpleNamespace(number=1, score=SimpleNamespace(values=(0.5,)))
    tracking: Any = SimpleNamespace(conclude=lambda results: None, trial=lambda number: run)
    results: Any = SimpleNamespace(best=best)
    tune._record_winner(sweep, results, tracking, model)
    assert len(run.entries) == (0 if refit else 1)
    asked = refit_config(sweep.trial_config({RATE: 1e-3, "training.weight_decay": 0.0}), Store(str(tmp_path))).mlflow
    assert asked.register_ == "words"


def test_a_refit_that_was_killed_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = load(tmp_path, monkeypatch, refit=True)
    refit = refit_config(sweep.trial_config({RATE: 1e-3, "training.weight_decay": 0.0}), Store(str(tmp_path)))
    folder = Store(str(tmp_path / "refit"))
    assert what_is_there(refit, folder) == Existing()
    write_record(folder, RunRecord(["raytrainer", "tune"], str(tmp_path), step=4, max_steps=8))
    folder.write("checkpoints/checkpoint-4/manifest.json", Manifest(4, "run", 0.0, 1, {}).to_json().encode())
    assert what_is_there(refit, folder) == Existing(goes_on=True, resumes=True)
    assert folder.below("checkpoints").steps() == [4]


def test_a_trials_model_is_held_against_what_mlflow_takes_and_the_trial_is_recorded_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused when it has been built, and not when all trials are over."""
    sweep = load(tmp_path, monkeypatch)
    planned = ConfigStudy(sweep, Space.of(sweep.space), None).planned(sweep.trial_config({RATE: 1e-3}))
    assert planned.tracking is None and planned.arguments.report_to == []
    factory: Any = job_of(planned, False, None).factory
    assert factory.config.mlflow.register_ == "words"

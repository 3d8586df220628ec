"""``raytrainer tune``: what follows a sweep's trials."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from raytrainer.checkpoints import Store
from raytrainer.config.sweep import SweepLoaded, load_sweep
from raytrainer.launch.tune import CONFIG, tune
from raytrainer.sweep.report import report
from tests.unit import sweep_records
from tests.unit.config_rows import config
from tests.unit.sweep_rows import EVALUATED

SWEEP = """
base: run.yaml
search_space:
  training.learning_rate: {loguniform: [1.0e-4, 1.0e-2]}
  training.per_device_train_batch_size: {choice: [16, 32, 64]}
  training.weight_decay: {uniform: [0, 0.1]}
tune: {metric: eval_loss, mode: min, num_samples: 5}
"""


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepLoaded:
    """A sweep whose trials are over, and that was not concluded."""
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(config(EVALUATED, name="name: dates-sweep"))
    Path("sweep.yaml").write_text(SWEEP)
    sweep = load_sweep("sweep.yaml", ["run.existing=resume", "mlflow=null"])
    folder = sweep_records.model_based(5).write(Store(str(tmp_path / "runs" / sweep.name)))
    folder.write(CONFIG, sweep.yaml().encode())
    return sweep


def test_a_sweep_whose_results_somebody_has_looked_at_is_concluded(
    sweep: SweepLoaded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / sweep.name
    report(str(folder))
    assert (folder / "results.json").exists()
    tune(sweep)
    assert (folder / "best.yaml").exists()
    assert "best config: " in capsys.readouterr().out
    tune(sweep)
    assert capsys.readouterr().out == f"{folder} is finished\n"


def test_without_plotly_a_sweep_is_concluded_and_finished(
    sweep: SweepLoaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    folder = Store(str(tmp_path / "runs" / sweep.name))
    tune(sweep)
    out, err = capsys.readouterr()
    assert "eval_loss" in out and "page: " not in out
    fix = f"pip install 'raytrainer[sweep]', and raytrainer report {folder.shown}"
    assert f"warning: there is no report.html, since plotly is not installed: {fix}" in err
    assert len(json.loads(folder.read("results.json"))["trials"]) == 5
    assert json.loads(folder.read("run.json"))["state"] == "finished"
    tune(sweep)
    assert capsys.readouterr().out == f"{folder.path} is finished\n"

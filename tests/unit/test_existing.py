"""What becomes of a run that is there already, and when."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytrainer.checkpoints import Store
from raytrainer.cli import main
from raytrainer.config.section import Common
from raytrainer.errors import UserError
from raytrainer.launch.existing import Existing, make_way, what_is_there
from raytrainer.run_record import RunRecord, write_record
from raytrainer.sweep.record_files import write_sweep
from raytrainer.sweep.records import SweepRecord
from raytrainer.tracking_target import Target


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "runs" / "mine"))
    write_record(store, RunRecord(None, "", state="failed", max_steps=10))
    return store


def config(existing: str) -> Common:
    return Common.model_validate({"name": "mine", "run": {"storage_path": "runs", "existing": existing}})


def test_to_decide_changes_nothing(folder: Store) -> None:
    assert what_is_there(config("replace"), folder) == Existing(replaced=True)
    assert what_is_there(config("resume"), folder) == Existing(goes_on=True)
    with pytest.raises(UserError, match="there is a run of that name, failed at step 0 of 10"):
        what_is_there(config("refuse"), folder)
    assert folder.files("") == ["run.json"]
    # A folder without a record of a run may be anybody's.
    assert what_is_there(config("replace"), folder.below("data")) == Existing()


def test_a_run_is_not_replaced_for_one_that_cannot_be_recorded(folder: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        make_way(folder, Target(f"sqlite:///{tmp_path}/nowhere/mlflow.db"))
    assert folder.files("") == ["run.json"]
    make_way(folder, None)
    assert folder.files("") == []


TASK = """
task: text-classification
model: {name: tiny}
data: {train: train.csv, eval: 0.1}
training: {max_steps: 2, eval_strategy: epoch}
mlflow: null
"""
SEARCH = """
search_space: {training.learning_rate: {uniform: [0, 1]}}
tune: {metric: eval_loss, mode: min, num_samples: 2}
"""
SCRIPT = "script: script.py\nmlflow: null\n"


@pytest.mark.parametrize(
    ("command", "config"),
    [("train", TASK), ("train", SCRIPT), ("tune", TASK + SEARCH)],
)
def test_a_misspelt_address_costs_no_run(
    command: str,
    config: str,
    folder: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("script.py").write_text("")
    Path("run.yaml").write_text(f"name: mine\n{config}run: {{storage_path: runs, existing: replace}}\n")
    write_sweep(folder, SweepRecord("mine", ["eval_loss"], ["min"]))
    assert main([command, "run.yaml", "--address", "ray://host:10001"]) == 2
    assert "--address = 'ray://host:10001'" in capsys.readouterr().err
    assert folder.files("") == ["run.json", "sweep.json"]

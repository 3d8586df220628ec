"""A sweep that is gone on with though its config has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytrainer.checkpoints import Store
from raytrainer.config.sweep import load_sweep
from raytrainer.errors import ArgumentsError
from raytrainer.launch.tune import CONFIG, _what_is_there
from raytrainer.run_record import ALLOW_CHANGES_VARIABLE
from raytrainer.sweep.record_files import write_sweep
from raytrainer.sweep.records import SweepRecord
from tests.unit.config_rows import config
from tests.unit.sweep_rows import EVALUATED, SWEEP


def test_changes_that_it_cannot_take_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(config(EVALUATED))
    Path("sweep.yaml").write_text(config(SWEEP))
    folder, record = Store(str(tmp_path / "sweep")), SweepRecord("dates-sweep", ["eval_loss"], ["min"])
    write_sweep(folder, record)
    folder.write(CONFIG, load_sweep("sweep.yaml").yaml().encode())
    settings = ("tune.num_samples=9", "tune.seed=1")
    more, other = (load_sweep("sweep.yaml", ["run.existing=resume", setting]) for setting in settings)
    with pytest.raises(ArgumentsError, match="begun with another config"):
        _what_is_there(more, folder)
    monkeypatch.setenv(ALLOW_CHANGES_VARIABLE, "1")
    assert _what_is_there(more, folder) == record
    with pytest.raises(ArgumentsError, match=r"tune\.seed cannot change once there are trials"):
        _what_is_there(other, folder)

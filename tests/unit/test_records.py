"""What a sweep leaves about itself: written, read, damaged, from another version."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from raytrainer.checkpoints import Store
from raytrainer.sweep import runner
from raytrainer.sweep.budget import Budget
from raytrainer.sweep.record_files import (
    read_end,
    read_sweep,
    read_trial,
    read_trials,
    trial_folder,
    write_end,
    write_sweep,
    write_trial,
)
from raytrainer.sweep.records import Change, End, Evaluation, SweepRecord, Trial, TrialRecord, seconds_ran

SWEEP = SweepRecord("dates", ["eval_loss"], ["min"], search={"optuna": {}}, seed=42, began=1.7e9, concurrency=2)
TRIAL = TrialRecord(
    id="a1b2_00003",
    number=3,
    origin="model",
    group=1,
    sampled={"training.learning_rate": 1e-3},
    values={"training.learning_rate": 1e-3, "training.gradient_accumulation_steps": 4},
    arguments={"learning_rate": 1e-3},
    max_steps=100,
    workers=2,
    gpus=0.5,
    began=1.7e9,
    seconds=12.5,
    history=(Evaluation(10, 0.5, 1.7e9 + 5, 5.0, {"eval_loss": 2.5}), Evaluation(20, 1.0, 1.7e9 + 10, 10.0, {})),
    changes=(Change(10, {"training.learning_rate": 2e-3}, "a1b2_00001", 1),),
)


@pytest.fixture(params=["local", "uri"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "sweep") if request.param == "local" else f"file://{tmp_path}/sweep")


def test_what_is_written_is_read(folder: Store) -> None:
    end = End("failed", error="Traceback ...")
    write_sweep(folder, SWEEP)
    write_trial(folder, TRIAL)
    write_end(folder, 3, end)
    assert read_sweep(folder) == SWEEP
    assert read_trial(folder, 3) == TRIAL
    assert read_trials(folder) == [Trial(TRIAL, end)]


def test_the_files_say_what_they_shall(folder: Store) -> None:
    write_trial(folder, TRIAL)
    values = json.loads(folder.read("trials/00003/trial.json"))
    assert values["changes"] == [
        {"step": 10, "values": {"training.learning_rate": 2e-3}, "from": "a1b2_00001", "from_number": 1}
    ]
    assert values["history"][0] == {
        **{"step": 10, "epoch": 0.5, "time": 1.7e9 + 5, "seconds": 5.0, "metrics": {"eval_loss": 2.5}}
    }


def test_numbers_of_numpy_and_values_of_any_class_are_written(folder: Store) -> None:
    write_trial(folder, replace(TRIAL, values={"a": np.int64(3), "b": np.float32(0.5), "c": Path("x")}))
    assert read_trial(folder, 3).values == {"a": 3, "b": 0.5, "c": "x"}


def test_a_metric_that_is_no_number_stays_none(folder: Store) -> None:
    metrics = {"eval_loss": math.nan, "eval_accuracy": math.inf}
    write_trial(folder, replace(TRIAL, history=(Evaluation(10, None, 0.0, 0.0, metrics),)))
    read = read_trial(folder, 3).history[0].metrics
    assert math.isnan(read["eval_loss"])
    assert read["eval_accuracy"] == math.inf


def test_what_a_newer_version_adds_is_ignored(folder: Store) -> None:
    write_sweep(folder, SWEEP)
    write_trial(folder, TRIAL)
    write_end(folder, 3, End("stopped", "asha"))
    for name in ("sweep.json", "trials/00003/trial.json", "trials/00003/end.json"):
        values = {**json.loads(folder.read(name)), "colour": "red"}
        for entry in [*values.get("history", []), *values.get("changes", [])]:
            entry["colour"] = "red"
        folder.write(name, json.dumps(values).encode())
    assert read_sweep(folder) == SWEEP
    assert read_trials(folder) == [Trial(TRIAL, End("stopped", "asha"))]


TORN = [
    b"",
    b'{"id": "a1',
    b"\xff\xfe\x00",
    b"[]",
    b"17",
    b'{"number": 1}',
    b'{"id": "a", "number": 3, "origin": "x", "history": [3]}',
]


@pytest.mark.parametrize("content", TORN)
def test_a_torn_trial_is_told_and_hides_no_other(content: bytes, folder: Store) -> None:
    write_trial(folder, TRIAL)
    folder.write("trials/00001/trial.json", content)
    torn, whole = read_trials(folder)
    assert (torn.record.number, torn.state) == (1, "unreadable")
    assert torn.damage is not None and torn.damage.startswith("trial.json cannot be read: ")
    assert whole == Trial(TRIAL)


@pytest.mark.parametrize(
    ("end", "state"),
    [(None, "unreadable"), ("finished", "unreadable"), ("stopped", "unreadable"), ("failed", "failed")],
)
def test_a_trial_that_wrote_nothing_is_told(end: str | None, state: str, folder: Store) -> None:
    folder.write("trials/00002/log.txt", b"")
    if end is not None:
        write_end(folder, 2, End(end))
    (trial,) = read_trials(folder)
    assert (trial.record.number, trial.damage, trial.state) == (2, "there is no trial.json", state)


@pytest.mark.parametrize("content", [b"", b'{"state"', b"[]", b"{}"])
def test_a_torn_end_is_none(content: bytes, folder: Store) -> None:
    write_trial(folder, TRIAL)
    folder.write("trials/00003/end.json", content)
    assert read_end(folder, 3) is None
    assert read_trials(folder)[0].state == "running"


def test_a_folder_without_trials_has_none(folder: Store) -> None:
    assert read_trials(folder) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"name": "x", "metric": [], "mode": []}'])
def test_a_torn_sweep_is_a_value_error(content: bytes, folder: Store) -> None:
    folder.write("sweep.json", content)
    with pytest.raises(ValueError):
        read_sweep(folder)


def test_no_sweep_is_told(folder: Store) -> None:
    with pytest.raises(FileNotFoundError):
        read_sweep(folder)


def test_checkpoints_are_seen(folder: Store) -> None:
    write_trial(folder, TRIAL)
    trial_folder(folder, 3).write("checkpoints/checkpoint-20/manifest.json", b"{}")
    trial_folder(folder, 3).write("checkpoints/checkpoint-10/manifest.json", b"{}")
    assert read_trials(folder)[0].checkpoints == (10, 20)


def test_the_records_import_nothing_slow() -> None:
    code = """
import sys, raytrainer.sweep.record_files
slow = {"torch", "ray", "transformers", "plotly", "optuna", "rich"} & set(sys.modules)
assert not slow, slow
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_time_in_which_nothing_ran_is_not_time_that_a_sweep_ran() -> None:
    """Three sessions of 100 s, a day apart: the first was ended, the second killed, the third runs or has ended."""
    day, began = 86400.0, SWEEP.began
    first = replace(SWEEP, ended=began + 100, state="interrupted")
    assert seconds_ran(first, []) == 100

    def evaluated(time: float) -> list[Trial]:
        return [Trial(replace(TRIAL, history=(Evaluation(10, 0.5, time, 5.0, {}),)))]

    second = replace(SWEEP, resumed=began + day, earlier=seconds_ran(first, []))
    assert seconds_ran(second, evaluated(began + 90)) == 100  # none was evaluated since
    assert seconds_ran(second, evaluated(began + day + 100)) == 200
    third = replace(second, resumed=began + 2 * day, earlier=200.0)
    assert seconds_ran(third, evaluated(began + 2 * day + 50)) == 250
    assert seconds_ran(replace(third, ended=began + 2 * day + 100), evaluated(began + 2 * day + 50)) == 300


def test_a_sweep_that_goes_on_notes_when_and_what_it_had_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_run", lambda sweep, record, post: {})
    given: Any = SimpleNamespace(folder=Store(str(tmp_path)), max_concurrent=2, tracking=None)
    given.record, given.budget, given.resume = replace(SWEEP, began=0.0), Budget(), False
    runner.run_sweep(given)
    begun = read_sweep(given.folder)
    assert begun.began > SWEEP.began and (begun.resumed, begun.earlier) == (None, 0.0)
    given.record, given.budget, given.resume = begun, Budget(before=40), True
    runner.run_sweep(given)
    again = read_sweep(given.folder)
    assert again.began == begun.began and again.earlier == 40
    assert again.resumed is not None and again.resumed >= begun.began

"""What a sweep's runs in MLflow become of what the trials and the overseer tell; no trial is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from raytrainer.checkpoints import Store
from raytrainer.events import Began, Ended, Logged
from raytrainer.launch.sync import sync
from raytrainer.sweep.record_files import write_end, write_sweep
from raytrainer.sweep.records import Change, End, SweepRecord, TrialRecord
from raytrainer.sweep.telling import Told, TrialEnded
from raytrainer.sweep.tracking import SweepTracking, tracked
from raytrainer.tracking_target import Target
from tests.unit.test_tracking import empty_database, untouched_mlflow

pytestmark = pytest.mark.trains

__all__ = ["empty_database", "untouched_mlflow"]

RATE = "training.learning_rate"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"  # untouched_mlflow puts it there


@contextlib.contextmanager
def driver(uri: str, again: bool = False, required: bool = True) -> Iterator[SweepTracking]:
    target = Target(uri, experiment_name="Default", run_name="sweep", required=required)
    with tracked(target, Store(str(Path.cwd() / "sweep")), "eval_loss", {}, again) as tracking:
        assert tracking is not None
        yield tracking


def turn(number: int, steps: range, changes: tuple[Change, ...] = (), values: float = 0.1) -> Told:
    """What a trial tells while it trains these steps."""
    record = TrialRecord(f"t{number}", number, "random", values={RATE: values}, changes=changes, began=1.7e9)
    logs = [Logged(step, 100, None, {"loss": 1 / step + len(changes)}, 1.7e9 + step) for step in steps]
    return Told(number, [record, Began(steps.start - 1, 100, 1, 8, "fp32"), *logs])


def runs(uri: str) -> dict[str, Run]:
    return {str(run.info.run_name): run for run in MlflowClient(uri).search_runs(["0"])}


def history(uri: str, run: Run, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in MlflowClient(uri).get_metric_history(run.info.run_id, name)]


def test_the_steps_of_a_clone_are_its_own(uri: str) -> None:
    """A clone goes on from a step that its trial has passed, and what is trained again after a failure is known."""
    change = Change(4, {RATE: 0.3}, "t2", 2)
    with driver(uri) as tracking:
        tracking.handle(turn(1, range(1, 9)))
        tracking.handle(turn(1, range(5, 7), (change,)))
        tracking.handle(turn(1, range(5, 8), (change,)))
    with driver(uri, again=True) as tracking:
        tracking.handle(turn(1, range(5, 9), (change,)))
        tracking.handle(TrialEnded(1, End("finished"), 8))
    run = runs(uri)["sweep-00001"]
    first, second = [(step, 1 / step) for step in range(1, 9)], [(step, 1 / step + 1) for step in range(5, 9)]
    assert sorted(history(uri, run, "loss")) == sorted([*first, *second])
    assert history(uri, run, RATE) == [(0, 0.1), (4, 0.3)]
    assert (run.data.params[RATE], run.data.tags["clone_of"]) == ("0.1", "sweep-00002 at step 4")
    assert run.info.status == "FINISHED"


def test_a_script_that_raised_and_is_tried_again_has_each_step_once(uri: str) -> None:
    with driver(uri) as tracking:
        first = turn(1, range(1, 11))
        tracking.handle(Told(1, [*first.said, Ended()]))
        again = turn(1, range(1, 13)).said
        tracking.handle(Told(1, [replace(each, time=2e9) if isinstance(each, Logged) else each for each in again]))
    assert [step for step, _ in history(uri, runs(uri)["sweep-00001"], "loss")] == [*range(1, 13)]


def test_a_trial_that_ended_unheard_gets_its_end(uri: str) -> None:
    """Its driver was killed between end.json and MLflow; a sweep that goes on does not train it again."""
    with driver(uri) as tracking:
        tracking.handle(turn(1, range(1, 5)))
        tracking.handle(turn(2, range(1, 5)))
        tracking.handle(TrialEnded(2, End("failed", error="\n".join([*"abcdef", "ValueError: no"])), 4))
    assert {name: run.info.status for name, run in runs(uri).items()} == {
        **{"sweep": "FINISHED", "sweep-00001": "RUNNING", "sweep-00002": "FAILED"}
    }
    assert runs(uri)["sweep-00002"].data.tags["raytrainer.error"] == "c\nd\ne\nf\nValueError: no"
    with driver(uri, again=True) as tracking:
        tracking.handle(TrialEnded(1, End("stopped", "asha"), 4, {RATE: 0.1}, earlier=True))
    run = runs(uri)["sweep-00001"]
    assert (run.info.status, run.data.tags["stopped_early"]) == ("FINISHED", "asha")
    assert history(uri, run, "loss") == [(step, 1 / step) for step in range(1, 5)]


def test_a_trial_that_never_began_has_a_run_only_where_it_failed(uri: str) -> None:
    with driver(uri) as tracking:
        tracking.handle(TrialEnded(1, End("interrupted"), 0, {RATE: 0.1}))
        tracking.handle(TrialEnded(2, End("failed", error="MemoryError"), 0, {RATE: 0.2}))
    found = runs(uri)
    assert sorted(found) == ["sweep", "sweep-00002"]
    assert (found["sweep-00002"].info.status, found["sweep-00002"].data.params[RATE]) == ("FAILED", "0.2")


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "KILLED"), (ValueError("no"), "FAILED")])
def test_what_ends_a_sweep_is_its_state(uri: str, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), driver(uri):
        raise error
    assert runs(uri)["sweep"].info.status == status


def test_sync_makes_the_tree_that_a_server_missed(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with driver("http://127.0.0.1:9", required=False) as tracking:
        for number in (1, 2):
            tracking.handle(turn(number, range(1, 5)))
            tracking.handle(TrialEnded(number, End("finished"), 4))
    folder = Store(str(tmp_path / "sweep"))
    write_sweep(folder, SweepRecord("sweep", ["eval_loss"], ["min"], state="finished"))
    for number in (1, 2):
        write_end(folder, number, End("finished"))
    assert sync(str(tmp_path / "sweep"), uri)
    found = runs(uri)
    parent = found.pop("sweep")
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {parent.info.run_id}
    assert [len(history(uri, run, "loss")) for run in found.values()] == [4, 4]
    assert {run.info.status for run in found.values()} == {"FINISHED"}


def test_a_trial_that_goes_on_runs_again(uri: str) -> None:
    with driver(uri) as tracking:
        tracking.handle(turn(1, range(1, 5)))
        tracking.handle(TrialEnded(1, End("interrupted"), 4))
    assert runs(uri)["sweep-00001"].info.status == "KILLED"
    with driver(uri, again=True) as tracking:
        tracking.handle(turn(1, range(3, 7)))
        tracking.tracker.drain()
        assert {run.info.status for run in runs(uri).values()} == {"RUNNING"}
        tracking.handle(TrialEnded(1, End("finished"), 6))
    run = runs(uri)["sweep-00001"]
    assert (run.info.status, len(history(uri, run, "loss"))) == ("FINISHED", 6)

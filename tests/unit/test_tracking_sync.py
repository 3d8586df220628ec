"""What a server missed is written by ``raytrainer sync``, once; what was killed gets an end state."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from raytrainer.checkpoints import Store
from raytrainer.cli import main
from raytrainer.events import Ended
from raytrainer.run_record import RunRecord, write_record
from raytrainer.sweep.record_files import trial_folder, write_end, write_sweep, write_trial
from raytrainer.sweep.records import End, SweepRecord, TrialRecord
from raytrainer.tracking import Tracker, open_tracker
from raytrainer.tracking_entry import Entry, Point
from raytrainer.tracking_journal import new_journal, read_journals
from raytrainer.tracking_target import Target
from tests.unit.test_tracking import began, closed_port, empty_database, logged
from tests.waiting import until

pytestmark = pytest.mark.trains

__all__ = ["empty_database"]


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path}/mlflow.db"


def away() -> str:
    return f"http://127.0.0.1:{closed_port()}"


def runs(uri: str, view: int = ViewType.ALL) -> list[Run]:
    return list(MlflowClient(uri).search_runs(["0"], run_view_type=view))


def steps(uri: str, run: Run) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in MlflowClient(uri).get_metric_history(run.info.run_id, "loss")]


def train(tracker: Tracker, first: int, last: int) -> None:
    tracker.handle(dataclasses.replace(began(), step=first - 1))
    for step in range(first, last):
        tracker.handle(logged(step, {"loss": 1 / step}))


def recorded(folder: Store, target: Target, error: BaseException | None = None) -> Tracker:
    tracker = open_tracker(target, folder)
    train(tracker, 1, 11)
    tracker.close(error)
    return tracker


def test_a_run_that_no_server_has_seen_is_made_once(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Store(str(tmp_path / "run"))
    target = Target(away(), experiment_name="Default", run_name="words", required=False, tags={"team": "vision"})
    tracker = recorded(folder, target, ValueError("boom"))
    assert tracker.run_id is None
    for _ in range(2):
        assert main(["sync", folder.path, "--tracking-uri", uri]) == 0
        (run,) = runs(uri)
        assert steps(uri, run) == [(step, 1 / step) for step in range(1, 11)]
        assert (run.info.run_name, run.info.status) == ("words", "FAILED")
        assert run.data.tags["raytrainer.error"] == "ValueError: boom"
        assert run.data.tags["team"] == "vision"
        assert "words: complete in mlflow ui" in capsys.readouterr().out


def test_to_go_on_after_a_sync_goes_on_with_the_same_run(uri: str, tmp_path: Path) -> None:
    folder = Store(str(tmp_path / "run"))
    recorded(folder, Target(away(), experiment_name="Default", required=False), KeyboardInterrupt())
    assert main(["sync", folder.path, "--tracking-uri", uri]) == 0
    assert runs(uri)[0].info.status == "KILLED"
    tracker = open_tracker(Target(uri, experiment_name="Default"), folder, again=True)
    assert runs(uri)[0].info.status == "RUNNING"
    train(tracker, 6, 21)  # from a checkpoint before the end
    tracker.close(None)
    (run,) = runs(uri)
    assert steps(uri, run) == [(step, 1 / step) for step in range(1, 21)]
    assert run.info.status == "FINISHED"


def test_what_a_killed_driver_did_not_hear_is_in_the_checkpoint(uri: str, tmp_path: Path) -> None:
    folder, target = Store(str(tmp_path / "run")), Target(uri, experiment_name="Default")
    recorded(folder, target)
    tracker = open_tracker(target, folder, again=True)
    # Steps 11 and 12 were logged and saved by workers that outlived their driver; of 13 there is no checkpoint.
    history = [{"loss": 1 / step, "step": step} for step in range(1, 14)]
    tracker.handle(dataclasses.replace(began(), step=12, history=history))
    train(tracker, 13, 16)
    tracker.close(None)
    assert sorted(steps(uri, runs(uri)[0])) == [(step, 1 / step) for step in range(1, 16)]


def test_each_training_of_a_script_counts_its_own_steps(uri: str, tmp_path: Path) -> None:
    folder, target = Store(str(tmp_path / "run")), Target(uri, experiment_name="Default")
    tracker = open_tracker(target, folder)

    def training(tracker: Tracker, number: int, steps: range) -> None:
        tracker.handle(began())
        for step in steps:
            tracker.handle(logged(step, {"loss": number + step / 100}))
        tracker.handle(Ended())

    training(tracker, 1, range(1, 11))
    training(tracker, 2, range(1, 5))
    tracker.close(KeyboardInterrupt())
    again = open_tracker(target, folder, again=True)
    training(again, 1, range(0))
    training(again, 2, range(3, 8))  # from its checkpoint
    again.close(None)
    expected = [(step, 1 + step / 100) for step in range(1, 11)] + [(step, 2 + step / 100) for step in range(1, 8)]
    assert sorted(steps(uri, runs(uri)[0])) == sorted(expected)


def test_what_is_told_between_two_trainings_is_of_the_first(uri: str, tmp_path: Path) -> None:
    tracker = open_tracker(Target(uri, experiment_name="Default"), Store(str(tmp_path / "run")))
    for number in (1, 2):
        tracker.handle(began())
        for step in (5, 10):
            tracker.handle(logged(step, {"loss": number + step / 100}))
        tracker.handle(Ended())
        tracker.handle(logged(20, {"loss": number + 0.5}))
    tracker.close(None)
    assert sorted(value for _, value in steps(uri, runs(uri)[0])) == [1.05, 1.1, 1.5, 2.05, 2.1, 2.5]


def test_what_no_training_tells_is_told_again(uri: str, tmp_path: Path) -> None:
    """An evaluation of a program that goes on, whose training is finished."""
    folder, target = Store(str(tmp_path / "run")), Target(uri, experiment_name="Default")
    recorded(folder, target)
    again = open_tracker(target, folder, again=True)
    again.handle(logged(10, {"loss": 5.0}))
    again.close(None)
    assert (10, 5.0) in steps(uri, runs(uri)[0])


def test_a_run_that_a_store_has_lost_is_written_anew(uri: str, tmp_path: Path, empty_database: Path) -> None:
    folder = Store(str(tmp_path / "run"))
    recorded(folder, Target(uri, experiment_name="Default"))
    shutil.copy(empty_database, tmp_path / "other.db")
    assert main(["sync", folder.path, "--tracking-uri", f"sqlite:///{tmp_path}/other.db"]) == 0
    assert main(["sync", folder.path, "--tracking-uri", uri]) == 0
    MlflowClient(uri).delete_run(runs(uri)[0].info.run_id)
    assert main(["sync", folder.path]) == 0
    for store in (uri, f"sqlite:///{tmp_path}/other.db"):
        (run,) = runs(store, ViewType.ACTIVE_ONLY)
        assert (len(steps(store, run)), run.info.status) == (10, "FINISHED")


def test_an_answer_that_was_lost_makes_no_second_run(uri: str, tmp_path: Path) -> None:
    folder, target = Store(str(tmp_path / "run")), Target(uri, experiment_name="Default")
    tracker = recorded(folder, target)
    # As a driver leaves it that was killed while the store made the run.
    read_journals(folder)[0].note(run_id=None, written=0)
    again = open_tracker(target, folder, again=True)
    assert again.run_id == tracker.run_id
    again.close(None)
    assert len(runs(uri)) == 1


def test_a_driver_that_was_killed_leaves_a_run_with_an_end(uri: str, tmp_path: Path) -> None:
    folder = Store(str(tmp_path / "run"))
    code = f"""
import os
from raytrainer.checkpoints import Store
from raytrainer.tracking import open_tracker
from raytrainer.tracking_target import Target
from tests.unit.test_tracking_sync import train
tracker = open_tracker(Target({uri!r}, experiment_name="Default"), Store({folder.path!r}))
train(tracker, 1, 11)
tracker.drain()
os.kill(os.getpid(), 9)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == -9
    assert runs(uri)[0].info.status == "RUNNING"
    shutil.copytree(tmp_path / "run", tmp_path / "left")
    said = {"running": "KILLED", "failed": "FAILED", "interrupted": "KILLED", "finished": "FINISHED"}
    for state, status in said.items():
        shutil.rmtree(tmp_path / "run")
        shutil.copytree(tmp_path / "left", tmp_path / "run")
        write_record(folder, RunRecord(["train"], str(tmp_path), state))
        assert main(["sync", folder.path]) == 0
        (run,) = runs(uri)
        assert (run.info.status, len(steps(uri, run))) == (status, 10)
        assert run.info.end_time == 1_700_000_010_000  # when it was last seen
        assert ("without a word" in run.data.tags.get("raytrainer.error", "")) == (state == "running")


def test_a_sweep_is_made_parents_first(uri: str, tmp_path: Path) -> None:
    folder, target = Store(str(tmp_path / "sweep")), Target(away(), experiment_name="Default", run_name="sweep")
    write_sweep(folder, SweepRecord("sweep", ["loss"], ["min"], state="interrupted"))
    parent = new_journal(folder, target)
    parent.append([Entry(tags={"best": "2"})])
    for number in (1, 2):
        write_trial(folder, TrialRecord(id=f"t{number}", number=number, origin="random"))
        child = new_journal(trial_folder(folder, number), target, parent=parent.head.key)
        child.append([Entry(points=[Point("loss", 0.5, 1_700_000_000_000, 3)])])
    write_end(folder, 1, End("failed", error="out of memory"))
    # While its driver is at work, a trial that is over is not made without its parent.
    read_journals(trial_folder(folder, 1))[0].note(host="", pid=0)
    assert main(["sync", folder.path, "--tracking-uri", uri]) == 1
    assert runs(uri) == []
    for journal in (parent, *(j for n in (1, 2) for j in read_journals(trial_folder(folder, n)))):
        journal.claim()
        journal.release()
    assert main(["sync", folder.path, "--tracking-uri", uri]) == 0
    (top,) = (run for run in runs(uri) if "mlflow.parentRunId" not in run.data.tags)
    children = {run.info.status: run.data.tags for run in runs(uri) if "mlflow.parentRunId" in run.data.tags}
    assert (top.info.status, sorted(children)) == ("KILLED", ["FAILED", "KILLED"])
    assert {tags["mlflow.parentRunId"] for tags in children.values()} == {top.info.run_id}
    assert children["FAILED"]["raytrainer.error"] == "out of memory"


def test_a_driver_at_work_is_left_alone(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Store(str(tmp_path / "run"))
    tracker = open_tracker(Target(uri, experiment_name="Default", run_name="words"), folder)
    assert main(["sync", folder.path]) == 1
    assert f"words: left alone, its driver is at work (process {os.getpid()})" in capsys.readouterr().out
    # On a machine of which nothing is known.
    read_journals(folder)[0].note(host="elsewhere")
    assert main(["sync", folder.path]) == 1
    assert "may be at work on elsewhere; --force if it is not" in capsys.readouterr().out
    assert runs(uri)[0].info.status == "RUNNING"
    assert main(["sync", folder.path, "--force"]) == 0
    assert runs(uri)[0].info.status == "KILLED"
    tracker.close(None)


def test_a_folder_without_a_record_and_a_store_without_its_password_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["sync", str(tmp_path)]) == 2
    assert "there is no record of MLflow in it" in capsys.readouterr().err
    secret = "postgresql://anna:hunter2@127.0.0.1:1/mlflow"
    folder = Store(str(tmp_path / "run"))
    recorded(folder, Target(secret, experiment_name="Default", required=False))
    assert "hunter2" not in "".join(path.read_text() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert main(["sync", folder.path]) == 2
    assert "a record keeps no password" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", secret)
    assert main(["sync", folder.path]) == 2
    assert "refused" in capsys.readouterr().err


def test_a_record_keeps_what_it_can_when_its_storage_fails(uri: str, tmp_path: Path) -> None:
    folder = Store(str(tmp_path / "run"))
    tracker = open_tracker(Target(uri, experiment_name="Default"), folder)
    (entries := Path(tracker.run.journal._store.folder) / "entries.jsonl").mkdir()  # nothing can be appended to it
    train(tracker, 1, 5)
    tracker.drain()
    entries.rmdir()
    train(tracker, 5, 8)
    tracker.close(None)
    kept = [point.step for entry in read_journals(folder)[0].read() for point in entry.points]
    assert kept == list(range(1, 8))
    assert [step for step, _ in steps(uri, runs(uri)[0])] == list(range(1, 8))


def test_what_comes_while_a_server_is_silent_is_kept_at_once(tmp_path: Path) -> None:
    folder = Store(str(tmp_path / "run"))

    def kept() -> list[int]:
        return [point.step for entry in read_journals(folder)[0].read() for point in entry.points]

    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        tracker = open_tracker(Target(uri, experiment_name="Default"), folder, wait=False)
        silent.settimeout(60)
        asked, _ = silent.accept()  # and gives no answer
        for step in range(1, 4):
            train(tracker, step, step + 1)

            def told(step: int = step) -> bool:
                return kept()[-1:] == [step]

            until(told)
        asked.close()

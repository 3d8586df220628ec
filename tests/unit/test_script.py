"""What ``raytrainer run`` is made of, without Ray."""

from __future__ import annotations

import errno
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from raytrainer.checkpoints import Store
from raytrainer.cli import main
from raytrainer.errors import ScriptFailed, UserError
from raytrainer.events import Began, Event, Logged, Note, Printed
from raytrainer.launch.script_call import ScriptCall
from raytrainer.launch.script_records import Records, tracking_of
from raytrainer.launch.script_sinks import Deferred, Shown
from raytrainer.outbox import Outbox
from raytrainer.script_imports import after_import
from raytrainer.script_order import ScriptOrder
from raytrainer.script_storage import Places
from raytrainer.tracking_target import Target

ROOT = Path(__file__).parents[2]


# mistakes


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nowhere.py", "--num-workers=0"], "SCRIPT = 'nowhere.py': there is no such file"),
        (["-n", "0", "here.py"], "--num-workers = 0: there is nobody"),
        (["."], "SCRIPT = '.': it is a folder"),
        (["-m", "pack.nowhere", "-n", "0"], "-m = 'pack.nowhere': there is no module 'nowhere'"),
        (["-m", "pack"], "-m = 'pack': it is a package without a __main__.py"),
        (["-m", "pack..one"], "-m = 'pack..one': there is no module ''"),
        (["--name", "x", "here.py"], "--name = 'x': it names a folder in the storage"),
        (["--name", "a/b", "--storage-path", "p", "here.py"], "--name = 'a/b': it is not the name of a folder"),
        (["--loss-scale", "atuo", "here.py"], "--loss-scale = 'atuo': there is no such way\n  Instead: write 'auto'"),
        (["--max-failures", "-2", "here.py"], "--max-failures = -2"),
        (["--cpus-per-worker", "-1", "here.py"], "--cpus-per-worker = -1"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    arguments: list[str],
    error: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "here.py").write_text("")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").write_text("raise AssertionError('imported on the driver')")
    monkeypatch.chdir(tmp_path)
    assert main(["run", *arguments]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"raytrainer run: {error}") and "\n  Instead: " in printed
    assert "--num-workers" not in printed or "--num-workers" in error


@pytest.mark.parametrize("arguments", [["run"], ["run", "--no-such-option", "here.py"], ["run", "-n", "two", "x.py"]])
def test_a_misspelt_command_is_the_users_mistake(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Usage: raytrainer run" in capsys.readouterr().err


# __main__

PROGRAM = """
import pickle, sys
from dataclasses import dataclass
from {beside} import NAME

@dataclass
class Options:
    rate: "float" = 1.0

if __name__ == "__main__":
    assert sys.modules["__main__"].Options is Options
    assert type(pickle.loads(pickle.dumps(Options()))) is Options
    print(sys.argv[1:], NAME, __package__ or None, __file__)
    {end}
"""


def run_main(target: str, module: bool, folder: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "from raytrainer.script_main import run_as_main, show_exception\n"
        f"try: run_as_main({target!r}, {module}, ['--a', 'b c'])\n"
        "except Exception as error: show_exception(error)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True)


def test_a_script_finds_what_is_beside_it(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/beside.py").write_text("NAME = 'beside'")
    script = tmp_path / "code/script.py"
    script.write_text(PROGRAM.format(beside="beside", end="1 / 0"))
    done = run_main(str(script), False, tmp_path)
    assert done.stdout == f"['--a', 'b c'] beside None {script}\n"
    python = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == python.stderr != ""


def test_a_module_has_its_package(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/beside.py").write_text("NAME = 'beside'")
    (tmp_path / "pack/run.py").write_text(PROGRAM.format(beside=".beside", end=""))
    done = run_main("pack.run", True, tmp_path)
    assert done.stdout == f"['--a', 'b c'] beside pack {tmp_path}/pack/run.py\n", done.stderr


def test_a_mistake_in_the_syntax_is_shown_without_our_frames(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("1 +\n")
    done = run_main(str(tmp_path / "script.py"), False, tmp_path)
    assert done.stderr.startswith(f'  File "{tmp_path}/script.py", line 1\n')


# hooks


def test_a_module_is_changed_when_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_late").mkdir()
    (tmp_path / "imported_late/__init__.py").touch()
    (tmp_path / "imported_late/part.py").write_text("VALUE = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = list(sys.meta_path)
    seen: list[str] = []

    def change(module: Any) -> None:
        seen.append(module.__name__)
        module.VALUE += 1

    after_import("imported_late.part", change)
    assert seen == []
    part = importlib.import_module("imported_late.part")
    assert (part.VALUE, seen, sys.meta_path) == (2, ["imported_late.part"], before)
    after_import("imported_late.part", change)
    assert part.VALUE == 3


# files


class Told(Outbox):
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.told: list[Event] = []

    def send(self, event: Event) -> None:
        self.told.append(event)


def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: Store | None, started: float = 0.0) -> Places:
    (tmp_path / "start").mkdir()
    monkeypatch.chdir(tmp_path / "start")
    values: dict[str, Any] = {name: None for name in ScriptOrder.__dataclass_fields__}
    return Places(ScriptOrder(**{**values, "storage": storage, "started": started}))


@pytest.mark.parametrize(
    ("output_dir", "mirror"),
    [
        ("out", "runs/a/out"),
        ("deep/out/", "runs/a/deep/out"),
        ("{tmp}/start/out", "runs/a/out"),
        ("{tmp}/elsewhere/out", "runs/a/out"),
        ("../out", "runs/a/out"),
        (".", "runs/a/start"),
    ],
)
def test_where_an_output_dir_is_in_the_storage(
    output_dir: str, mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = places(tmp_path, monkeypatch, Store(str(tmp_path / "runs/a")))
    assert there.mirror(output_dir.format(tmp=tmp_path)).path == str(tmp_path / mirror)


def test_without_a_storage_it_is_where_the_script_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = places(tmp_path, monkeypatch, None)
    assert there.mirror("out").path == str(tmp_path / "start/out")
    there.note("out")
    (there.logs / "rank-1.log").write_text("hello")
    there.bring_files(Told())
    there.bring_logs([there.logs / "rank-1.log"], Told())
    assert [path.name for path in (tmp_path / "start/out").rglob("*")] == ["logs", "rank-1.log"]


@pytest.mark.parametrize("local", [True, False])
def test_what_a_script_has_left_is_brought(local: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import fs

    path = str(tmp_path / "runs")
    # Through fsspec's interface pyarrow takes the same folder for a remote one.
    storage = Store(path) if local else Store(path, fs.SubTreeFileSystem("/", fs.LocalFileSystem()))
    there = places(tmp_path, monkeypatch, storage, started=1000.0)
    for name in ("config.json", "runs/events", "checkpoint-4/model", ".rank-1/x", "checkpoint-last/model", "old"):
        file = tmp_path / "start/out" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    os.utime(tmp_path / "start/out/old", (10, 10))
    there.note("out")
    told = Told()
    there.bring_files(told)
    left = {path.relative_to(tmp_path / "runs/out").as_posix() for path in (tmp_path / "runs").rglob("*")}
    assert left >= {"config.json", "runs/events", "checkpoint-last/model"} and told.told == []
    assert not left & {"checkpoint-4", "old", ".rank-1"}
    assert (tmp_path / "runs/out/runs/events").read_text() == "runs/events"


@pytest.mark.parametrize("storage", ["start/out/run", "start/out"])
def test_a_storage_below_an_output_dir_is_not_copied_into_itself(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = places(tmp_path, monkeypatch, Store(str(tmp_path / storage)))
    for name in ("start/out/config.json", "start/out/logs/rank-0.log", f"{storage}/run.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    there.note("out")
    told = Told()
    there.bring_files(told)
    assert told.told == []
    brought = {path.relative_to(tmp_path / "start/out").as_posix() for path in (tmp_path / "start/out").rglob("*.*")}
    own = {"config.json", "logs/rank-0.log"}
    in_storage = {"run/run.json", "run/out/config.json", "run/out/logs/rank-0.log"}
    assert brought == own | (in_storage if storage.endswith("run") else {"run.json"})


def test_what_cannot_be_brought_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").touch()
    there = places(tmp_path, monkeypatch, Store(str(tmp_path / "runs/a/b"), _local()))
    (tmp_path / "start/out").mkdir()
    (tmp_path / "start/out/file").touch()
    there.note("out")
    told = Told()
    there.bring_files(told)
    (note,) = told.told
    assert isinstance(note, Note) and note.warning and "could not be copied" in note.text


def test_what_is_brought_in_vain_at_first_is_tried_again_and_keeps_nothing_else_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = places(tmp_path, monkeypatch, Store(str(tmp_path / "runs"), _local()))
    (tmp_path / "start/out").mkdir()
    for name in ("a", "c"):
        (tmp_path / "start/out" / name).touch()
    (tmp_path / "start/out/b").symlink_to("nowhere")
    there.note("out")
    copy, failures = Store.copy, [OSError(errno.EIO, "the mount is away")]

    def fail_once(store: Store, file: Path, name: str) -> None:
        if failures:
            raise failures.pop()
        copy(store, file, name)

    monkeypatch.setattr(Store, "copy", fail_once)
    told = Told()
    there.bring_files(told)
    assert sorted(path.name for path in (tmp_path / "runs/out").iterdir()) == ["a", "c"]
    texts = [note.text for note in told.told if isinstance(note, Note)]
    assert [text for text in texts if "could not be copied" in text] == [text for text in texts if "out/b" in text]
    assert any("out/b could not be copied" in text for text in texts)
    assert any("the mount is away" in text for text in texts)


def _local() -> Any:
    from pyarrow import fs

    return fs.SubTreeFileSystem("/", fs.LocalFileSystem())


# output


def test_output_is_passed_on_byte_for_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "__stdout__", stream)
    shown = Shown()
    for data in (b"50%\r", "ü".encode()[:1], "ü".encode()[1:], b"\xff\n"):
        shown.handle(Printed("stdout", data))
    assert raw.getvalue() == b"50%\r" + "ü".encode() + b"\xff\n"


def test_a_live_terminal_gets_text(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = io.StringIO()
    monkeypatch.setattr(sys, "stderr", proxy)
    shown = Shown()
    for data in ("ü".encode()[:1], "ü".encode()[1:], b"\xff\n"):
        shown.handle(Printed("stderr", data))
    assert proxy.getvalue() == "ü\ufffd\n"


def test_a_record_is_made_when_a_training_begins() -> None:
    class Sink:
        def __init__(self) -> None:
            self.seen: list[object] = []

        def handle(self, event: Event) -> None:
            self.seen.append(event)

        def close(self, error: BaseException | None) -> None:
            self.seen.append(error)

    made: list[Sink] = []
    began, logged = Began(0, 1, 2, 8, "fp32"), Logged(1, 1, None, {}, 0.0)

    def make(event: Event) -> Sink:
        assert event is began
        made.append(Sink())
        return made[-1]

    deferred = Deferred(make, (Began,))
    deferred.close(None)
    for event in (Printed("stdout", b""), logged, began, logged):
        deferred.handle(event)
    deferred.close(None)
    assert [sink.seen for sink in made] == [[began, logged, None]]


def test_how_a_script_failed_travels() -> None:
    import pickle

    failure = pickle.loads(pickle.dumps(ScriptFailed(1, "Traceback\nValueError: no\n")))
    assert (failure.rank, failure.status, str(failure)) == (1, None, "rank 1: ValueError: no")
    assert str(ScriptFailed(0, "", 7)) == "rank 0: exit status 7"
    assert not isinstance(failure, UserError)


def test_a_script_of_a_config_is_recorded_by_the_name_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    names = []
    for run_name in (None, "nightly"):
        call = ScriptCall(script="train.py", module=False, arguments=[], name="mine", run_name=run_name)
        target = tracking_of(call)
        names.append(target and target.run_name)
    assert names == ["mine", "nightly"]


def test_a_script_that_only_evaluates_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    target = Target(f"sqlite:///{tmp_path}/mlflow.db", experiment_name="Default")
    records = Records(ScriptCall(script="evaluate.py", module=False, arguments=[]), target)
    *_, sink = records.sinks
    sink.handle(Logged(0, 0, None, {"eval_loss": 0.5}, time=1.7e9))
    sink.close(None)
    (run,) = MlflowClient(target.tracking_uri).search_runs(["0"])
    assert (run.data.metrics["eval_loss"], run.info.status) == (0.5, "FINISHED")

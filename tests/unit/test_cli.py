"""The command line, and run.json, from which it goes on."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import raytrainer as package
from raytrainer.checkpoints import Store
from raytrainer.cli import main
from raytrainer.errors import Interrupted, TrainingFailed
from raytrainer.events import Began, Event, Logged, Note, Phase, Saved
from raytrainer.run_record import (
    RESUME_VARIABLE,
    Recorder,
    RunRecord,
    asked_to_resume,
    how_to_go_on,
    how_to_resume,
    read_record,
)

ROOT = Path(__file__).parents[2]

# Writes what it was started with to the file that is its first argument.
SCRIPT = """
import json, os, sys
names = ("RAYTRAINER_RESUME", "RAYTRAINER_ALLOW_CHANGES", "RAYTRAINER_ADDRESS")
seen = {"arguments": sys.argv[1:], "folder": os.getcwd(), **{name: os.environ.get(name) for name in names}}
with open(sys.argv[1], "w") as file:
    json.dump(seen, file)
sys.exit(7)
"""


def raytrainer(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, as it may become another program."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "raytrainer", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def write(folder: Path, **values: Any) -> RunRecord:
    record = RunRecord(**{"command": [sys.executable, "x.py"], "directory": str(folder), **values})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(asdict(record)))
    return record


# resume


@pytest.mark.parametrize("state", ["running", "interrupted", "failed"])
def test_a_run_is_gone_on_with_by_its_own_command_in_its_own_folder(state: str, tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "my project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    (project / "train.py").write_text(SCRIPT)
    command = [sys.executable, "train.py", "seen.json", "--rate", "1e-3", "two words"]
    write(tmp_path / "out", command=command, directory=str(project), state=state, step=40, max_steps=100)
    done = raytrainer("resume", "../out", folder=elsewhere)
    assert done.returncode == 7, done.stderr
    assert json.loads((project / "seen.json").read_text()) == {
        "arguments": command[2:],
        "folder": str(project),
        "RAYTRAINER_RESUME": str(tmp_path / "out"),
        "RAYTRAINER_ALLOW_CHANGES": None,
        "RAYTRAINER_ADDRESS": None,
    }
    # What is about to run is shown: whoever can write the record decides it.
    assert done.stderr == f"../out: {state} at step 40 of 100; in {project}: {shlex.join(command)}\n"
    assert done.stdout == ""


def test_changes_are_allowed_for_that_program(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    write(tmp_path / "out", command=[sys.executable, "train.py", "seen.json"], directory=str(tmp_path))
    assert raytrainer("resume", "--allow-changes", "~/out", folder=tmp_path, HOME=str(tmp_path)).returncode == 7
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert (seen["RAYTRAINER_RESUME"], seen["RAYTRAINER_ALLOW_CHANGES"]) == (str(tmp_path / "out"), "1")


def test_another_cluster_is_named_to_that_program(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    write(tmp_path / "out", command=[sys.executable, "train.py", "seen.json"], directory=str(tmp_path))
    assert raytrainer("resume", "out", "--address", "head:6379", folder=tmp_path).returncode == 7
    assert json.loads((tmp_path / "seen.json").read_text())["RAYTRAINER_ADDRESS"] == "head:6379"


def test_a_run_in_a_storage_is_named_by_its_uri(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    write(tmp_path / "out", command=[sys.executable, "train.py", "seen.json"], directory=str(tmp_path))
    assert raytrainer("resume", f"file://{tmp_path}/out", folder=tmp_path).returncode == 7
    assert json.loads((tmp_path / "seen.json").read_text())["RAYTRAINER_RESUME"] == f"file://{tmp_path}/out"


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, command=None, directory="/nowhere", state="finished", step=100, max_steps=100)
    assert main(["resume", str(tmp_path)]) == 0
    assert capsys.readouterr() == (f"{tmp_path} is finished: step 100 of 100\n", "")


BROKEN = {
    "empty": b"",
    "cut off": b'{"command": ["pyth',
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "a number": b"17",
    "of another program": b'{"command": ["python"], "directory": "/", "colour": "red"}',
    "without its command": b'{"directory": "/"}',
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_record_is_the_users_to_mend(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").write_bytes(BROKEN[name])
    assert main(["resume", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"raytrainer resume: RUN = '{tmp_path}': its run.json cannot be read: ")
    assert err.endswith("\n  Instead: the folder of a run of raytrainer\n")
    assert out == ""


@pytest.mark.parametrize("run", ["missing", "empty", "file", "file://{}/missing", "unknown://bucket/run"])
def test_a_folder_that_is_no_run_is_told(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    run = run.format(tmp_path) if "://" in run else str(tmp_path / run)
    assert main(["resume", run]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"raytrainer resume: RUN = {run!r}: ")
    reason = "its run.json cannot be read" if run.startswith("unknown") else "there is no run.json in it"
    assert reason in err
    assert "\n  Instead: the folder " in err


def test_a_record_that_is_a_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").mkdir()
    assert main(["resume", str(tmp_path)]) == 2
    assert "its run.json cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "reason", "fix"),
    [
        ({"command": None}, "it was started in a notebook", "there: trainer.train(resume_from_checkpoint=True)"),
        ({"directory": "/no/such"}, "it was started in /no/such, which is not on this machine", "call this where"),
        ({"command": ["/no/such/python", "x.py"]}, "/no/such/python cannot be run here", "in its place"),
    ],
)
def test_what_cannot_be_started_again_is_told(
    values: dict[str, Any],
    reason: str,
    fix: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(RESUME_VARIABLE, "")  # so that it is put back
    write(tmp_path, **{"state": "failed", **values})
    assert main(["resume", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert f"raytrainer resume: RUN = '{tmp_path}': " in err
    assert reason in err
    assert fix in err.split("\n  Instead: ")[1]


@pytest.mark.parametrize("arguments", [[], ["resume"], ["remuse", "out"], ["resume", "-x"]])
def test_a_misspelt_command_line_is_the_users_mistake(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert "Usage: raytrainer" in printed.out + printed.err


# --help


@pytest.mark.parametrize("arguments", [["--help"], ["resume", "--help"], ["run", "--help"], ["manifest", "--help"]])
def test_help_imports_nothing_slow(arguments: list[str], tmp_path: Path) -> None:
    code = f"""
import sys
from raytrainer.cli import main
assert main({arguments!r}) == 0
slow = {{"torch", "ray", "transformers", "pyarrow", "numpy", "mlflow"}} & set(sys.modules)
assert not slow, slow
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: raytrainer" in done.stdout


@pytest.mark.parametrize(
    "what", ["import raytrainer", "import raytrainer; dir(raytrainer)", "import raytrainer.errors"]
)
def test_importing_it_imports_nothing_but_a_few_modules_of_pythons_own(what: str, tmp_path: Path) -> None:
    """0.3 s are for a Python that starts; whatever is heavy comes with the name that needs it."""
    code = f"""
import sys
before = set(sys.modules)
{what}
tops = {{name.partition(".")[0] for name in set(sys.modules) - before}}
foreign = tops - set(sys.stdlib_module_names) - {{"raytrainer"}}
assert not foreign, foreign
assert not {{"asyncio", "multiprocessing", "ssl", "sqlite3", "xml", "concurrent"}} & tops, tops
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr() == (f"raytrainer {package.__version__}\n", "")


def test_resuming_imports_no_torch(tmp_path: Path) -> None:
    write(tmp_path, state="finished")
    code = f"""
import sys
from raytrainer.cli import main
assert main(["resume", {str(tmp_path)!r}]) == 0
assert not {{"torch", "ray", "transformers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


def test_help_is_the_commands(tmp_path: Path) -> None:
    done = raytrainer("--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "resume" in done.stdout


# run.json


def began(step: int = 0) -> Began:
    return Began(step=step, max_steps=100, world_size=2, batch_size=8, precision="fp32")


def logged(step: int) -> Logged:
    return Logged(step, 100, None, {"loss": 1.0}, time=1.7e9)


def saved(step: int) -> Saved:
    return Saved(step, f"/out/checkpoint-{step}", 1, 1.0, 0.1)


START = RunRecord(["python", "x.py"], "/project")


def record(folder: Path, *events: Event) -> Recorder:
    recorder = Recorder(Store(str(folder)), START)
    for event in events:
        recorder.handle(event)
    return recorder


def test_a_run_that_never_began_leaves_the_earlier_record(tmp_path: Path) -> None:
    earlier = write(tmp_path, state="interrupted", step=40, max_steps=100)
    record(tmp_path, Phase("imports", 1.0), Note("hello")).close(TrainingFailed("no workers"))
    assert read_record(Store(str(tmp_path))) == earlier


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([began()], RunRecord(["python", "x.py"], "/project", max_steps=100)),
        ([began(40)], RunRecord(["python", "x.py"], "/project", step=40, max_steps=100)),
        (
            [began(), logged(10), saved(10), logged(15), Note("hello")],
            RunRecord(["python", "x.py"], "/project", step=10, max_steps=100, checkpoint="/out/checkpoint-10"),
        ),
        (
            [began(), logged(10), saved(10), logged(20), saved(20)],
            RunRecord(["python", "x.py"], "/project", step=20, max_steps=100, checkpoint="/out/checkpoint-20"),
        ),
    ],
)
def test_a_run_that_is_killed_says_running(events: list[Event], state: RunRecord, tmp_path: Path) -> None:
    record(tmp_path, *events)
    assert read_record(Store(str(tmp_path))) == state
    assert state.state == "running"


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "finished"),
        (KeyboardInterrupt(), "interrupted"),
        (Interrupted(15), "interrupted"),
        (TrainingFailed("a worker died"), "failed"),
        (SystemExit(3), "failed"),
    ],
)
def test_the_end_is_recorded(error: BaseException | None, state: str, tmp_path: Path) -> None:
    recorder = record(tmp_path, began(), logged(10), saved(10), logged(15))
    recorder.close(error)
    recorder.close(None if error else ValueError("closed already"))
    expected = RunRecord(
        ["python", "x.py"], "/project", state=state, step=15, max_steps=100, checkpoint="/out/checkpoint-10"
    )
    assert read_record(Store(str(tmp_path))) == recorder.record == expected


def test_a_record_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    recorder = record(tmp_path / "out", began(), saved(10))
    recorder.close(None)
    assert recorder.record.state == "finished"


@pytest.mark.parametrize(
    ("command", "folder", "text"),
    [
        (["python", "x.py"], "/data/out", "raytrainer resume /data/out"),
        (["python", "x.py"], "/my data/out", "raytrainer resume '/my data/out'"),
        (["python", "x.py"], "s3://b/p?region=r&x=y", "raytrainer resume 's3://b/p?region=r&x=y'"),
        (None, "/data/out", "train(resume_from_checkpoint=True)"),
    ],
)
def test_what_to_type(command: list[str] | None, folder: str, text: str) -> None:
    assert how_to_resume(RunRecord(command, "/project"), folder) == text


@pytest.mark.parametrize(
    ("checkpoint", "saved", "text"),
    [
        (None, None, "stopped before anything was saved"),
        ("out/checkpoint-5", None, "stopped; the last checkpoint is out/checkpoint-5. To go on: raytrainer resume out"),
        ("out/checkpoint-7", 7, "saved at step 7. To go on: raytrainer resume out"),
    ],
)
def test_what_a_stopped_training_has_left(checkpoint: str | None, saved: int | None, text: str) -> None:
    assert how_to_go_on(RunRecord(["python"], "/project", checkpoint=checkpoint), "out", saved) == text


TELL = "import json; from raytrainer.run_record import command_of_this_program as c; print(json.dumps(c()))"


@pytest.mark.parametrize(
    ("arguments", "repeatable"),
    [
        (["script.py"], True),
        (["-X", "utf8", "-u", "script.py", "--rate", "two words", ""], True),
        (["-m", "package", "resume"], True),
        (["-c", TELL], False),
        (["-"], False),
        (["-i", "-"], False),
    ],
)
def test_the_command_of_a_program(arguments: list[str], repeatable: bool, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(TELL)
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__main__.py").write_text(TELL)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=TELL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[0]) == ([sys.executable, *arguments] if repeatable else None)


@pytest.mark.parametrize(
    ("asked", "folder", "same"),
    [
        (None, "/data/out", False),
        ("/data/out", "/data/out", True),
        ("/data/out/", "/data/out", True),
        ("/data/other", "/data/out", False),
        ("file:///data/out", "/data/out", True),
        ("/data/out", "file:///data/out/", True),
        ("s3://b/out", "s3://b/out", True),
        ("s3://b/out/", "s3://b/out", True),
        ("s3://b/out/?region=r", "s3://b/out?region=r", True),
        ("s3://b/out?region=r", "s3://b/out?region=s", False),
        ("s3://b/out", "/data/out", False),
        ("/data/out", "bucket/runs/dates", False),
    ],
)
def test_a_program_knows_that_it_shall_go_on(
    asked: str | None, folder: str, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(RESUME_VARIABLE, raising=False)
    if asked is not None:
        monkeypatch.setenv(RESUME_VARIABLE, asked)
    assert asked_to_resume(folder) is same


def test_a_folder_with_two_names_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting anew because of a link in the path would overwrite what shall be gone on with."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    monkeypatch.setenv(RESUME_VARIABLE, str(tmp_path / "disk/out"))
    assert asked_to_resume(str(tmp_path / "data/out"))

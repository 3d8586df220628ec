"""A run's folder is one program's at a time, and free again however that one ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raytrainer.checkpoints import Store
from raytrainer.claim import claimed
from raytrainer.errors import ArgumentsError

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from raytrainer.checkpoints import Store
from raytrainer.claim import claimed

with claimed(Store(sys.argv[1]), "name", "a"):
    print("has it", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_program(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that has a folder until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "has it\n"
        yield program


def test_what_another_program_has_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a"
    with another_program(folder) as program:
        with pytest.raises(ArgumentsError) as error, claimed(Store(str(folder)), "name", "a"):
            pass
        (problem,) = error.value.problems
        assert (problem.setting, problem.value) == ("name", "a")
        assert problem.reason == f"process {program.pid} on {socket.gethostname()} trains into {folder}"
        # Nor does it help to delete the folder meanwhile, as run.existing=replace does.
        Store(str(folder)).delete()
        with pytest.raises(ArgumentsError), claimed(Store(str(folder)), "name", "a"):
            pass
        with claimed(Store(str(tmp_path / "runs" / "b")), "name", "b"):
            pass
    with claimed(Store(str(folder)), "name", "a"):
        pass
    assert list(tmp_path.iterdir()) == [], "nothing is left, not even the folder above"


def test_what_a_killed_program_had_is_free(tmp_path: Path) -> None:
    with another_program(tmp_path / "a") as program:
        program.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == [".a.lock"]
    with claimed(Store(str(tmp_path / "a")), "name", "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_program_may_ask_for_what_it_has(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "a"))
    with claimed(store, "name", "a"):
        with claimed(store, "name", "a"):
            pass
        with pytest.raises(subprocess.CalledProcessError):
            subprocess.run(
                [sys.executable, "-c", PROGRAM, store.path],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                check=True,
                capture_output=True,
            )


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with claimed(Store(str(tmp_path / "runs" / "a")), "name", "a"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_where_nothing_can_be_written_nobody_is_kept_out() -> None:
    """What cannot be written there is told by whoever writes."""
    with claimed(Store("/proc/nowhere/a"), "name", "a"):
        pass

"""A script that is disturbed ends as if nothing had happened, to the last bit, though it knows nothing of it."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_interrupt import Program
from tests.e2e.test_run import ROOT, SCRIPTS, left, raytrainer_run
from tests.torchrun import torchrun

pytestmark = pytest.mark.ray
SCRIPT = str(SCRIPTS / "disturbed.py")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, address: str) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    raytrainer_run("-n2", "--address", address, SCRIPT, str(folder), cwd=folder)
    return left(folder / "out")


def test_a_killed_worker(tmp_path: Path, undisturbed: dict[str, Any], address: str) -> None:
    done = raytrainer_run(
        *("-n2", "--address", address, "--max-failures=1", "--storage-path", str(tmp_path / "runs"), "--name=a"),
        *(SCRIPT, "mine", "kill"),
        cwd=tmp_path,
    )
    assert (tmp_path / "mine/killed").exists()
    assert "resumed at step 6 from" in done.stderr
    assert left(tmp_path / "runs/a/mine/out") == undisturbed


@pytest.mark.slow
def test_ctrl_c_and_resume(tmp_path: Path, undisturbed: dict[str, Any], address: str) -> None:
    command = [sys.executable, "-m", "raytrainer", "run", "-n2", "--address", address, "--no-mlflow"]
    program = Program([*command, SCRIPT, ".", "slow"], tmp_path, {"PYTHONPATH": str(ROOT)})
    program.until("after step 4\n")
    program.interrupt()
    rest = program.ends_with(130)
    assert "Traceback" not in rest and "Aborted" not in rest
    resume = re.search(r"saved at step (\d+)\. To go on: (raytrainer resume \S+)\n", rest)
    assert resume, rest
    assert json.loads((tmp_path / "out/run.json").read_text())["state"] == "interrupted"

    again = Program([sys.executable, "-m", *shlex.split(resume[2])], tmp_path, {"PYTHONPATH": str(ROOT)})
    assert f"resumed at step {resume[1]} from" in again.ends_with(0)
    assert left(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_two_trainings_in_one_script_and_a_worker_killed_in_the_second(tmp_path: Path, address: str) -> None:
    script = SCRIPTS / "stages.py"
    torchrun(script, "peer", cwd=tmp_path)
    here = ("-n2", "--address", address, "--max-failures=1", "--storage-path", str(tmp_path / "runs"), "--name=a")
    done = raytrainer_run(*here, str(script), "mine", "kill", cwd=tmp_path)
    assert (tmp_path / "mine/killed").exists()
    # Each goes on from its own checkpoints: the first one has nothing left to do.
    assert re.findall(r"resumed at step (\d+) from .*/mine/(\w+)/", done.stderr) == [("8", "one"), ("4", "two")]
    for stage in ("one", "two"):
        assert left(tmp_path / "runs/a/mine" / stage) == left(tmp_path / "peer" / stage)

"""A worker on a machine that has nothing of the user's folder: a second node in a mount namespace that hides it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from raytrainer.checkpoints import Store
from raytrainer.sweep.record_files import read_trials
from tests.e2e.test_run import raytrainer_run
from tests.e2e.words import ROOT, command_line

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SCRIPT = """
import os
from pathlib import Path
import beside
from package.part import PART

print(beside.NAME, PART, Path(__file__).with_name("words.txt").read_text(), os.path.exists("ignored.bin"))
open("made-here", "w").close()
"""


def ray_start(*options: str, hide: Sequence[Path] = ()) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *options]
    if hide:
        mounts = "".join(f"mount -t tmpfs none {path} && " for path in hide)
        command = ["unshare", "--mount", "sh", "-c", f'{mounts}exec "$@"', "sh", *command]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    (project / "package").mkdir(parents=True)
    (project / "package/__init__.py").touch()
    (project / "package/part.py").write_text("PART = 'part'")
    (project / "beside.py").write_text("NAME = 'beside'")
    (project / "words.txt").write_text("words")
    (project / "script.py").write_text(SCRIPT)
    (project / "ignored.bin").touch()
    (project / ".gitignore").write_text("*.bin\n")
    return project


@pytest.fixture
def elsewhere(project: Path) -> Iterator[str]:
    """A cluster whose slots are all on the node that does not have the project; its address."""
    if subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        pytest.skip("needs the right to make a mount namespace")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    head = ["--head", "--num-cpus=0", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]
    started = [ray_start(*head)]
    try:
        _until_it_listens(port)
        # Ray unpacks here what it brings to a machine, and deletes what is there: two nodes cannot share it.
        brought = Path("/tmp/ray/session_latest/runtime_resources").resolve()
        started.append(ray_start(f"--address={address}", "--num-cpus=2", hide=[project, brought]))
        _until_it_has_slots(address)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def _until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _until_it_has_slots(address: str) -> None:
    """In a process of its own: this one may be connected to another Ray."""
    code = """
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False)
deadline = time.monotonic() + 120
while not ray.cluster_resources().get("CPU") and time.monotonic() < deadline:
    time.sleep(0.2)
"""
    subprocess.run([sys.executable, "-c", code, address], check=True, capture_output=True)


def test_a_script_and_its_modules_reach_another_machine(project: Path, elsewhere: str) -> None:
    done = raytrainer_run("-n2", "--address", elsewhere, "script.py", cwd=project)
    assert done.stdout == "beside part words False\n"
    done = raytrainer_run("-n2", "--address", elsewhere, "-m", "script", cwd=project)
    assert done.stdout == "beside part words False\n"
    # Started in another folder: the script's own is what the other machine gets.
    (project / "start").mkdir()
    done = raytrainer_run("-n2", "--address", elsewhere, "../script.py", cwd=project / "start")
    assert done.stdout == "beside part words False\n"
    assert not (project / "made-here").exists()


OWN = """
import beside
import torch
from transformers import Trainer


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, labels=None):
        y = self.slope * x
        return ((y - labels) ** 2).mean(), y


def build(arguments):
    data = [{"x": torch.tensor([i / 8.0]), "labels": torch.tensor([i / 4.0])} for i in range(16)]
    return Trainer(Line(), arguments, train_dataset=data, eval_dataset=data)
"""
AS_A_SCRIPT = """
from own import build
from transformers import HfArgumentParser, TrainingArguments

(arguments,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
build(arguments).train()
open("made-here", "w").close()
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("of", ["trainer", "script"])
def test_the_trials_of_a_sweep_have_the_users_modules_on_another_machine(
    of: str, workers: int, project: Path, elsewhere: str, tmp_path: Path
) -> None:
    (project / "own.py").write_text(OWN)
    (project / "as_a_script.py").write_text(AS_A_SCRIPT)
    training = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "no"}
    flags = [f"--{name}={value}" for name, value in training.items()]
    what: dict[str, dict[str, Any]] = {"trainer": {"trainer": "own:build", "training": training}}
    what["script"] = {"script": "as_a_script.py", "args": [*flags, "--output_dir=out"]}
    sweep = {
        "name": "sweep",
        **what[of],
        "mlflow": None,
        "run": {"storage_path": str(tmp_path / "runs")},
        "scaling": {"num_workers": workers},
        "search_space": {"training.learning_rate": {"grid": [1e-2, 1e-1]}},
        "tune": {"metric": "eval_loss", "mode": "min"},
    }
    (project / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": elsewhere}
    command = command_line("tune", "sweep.yaml")
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = read_trials(Store(str(tmp_path / "runs" / "sweep")))
    assert [(trial.state, trial.record.workers) for trial in trials] == [("finished", workers)] * 2
    assert not (project / "made-here").exists()

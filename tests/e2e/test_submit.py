"""raytrainer submit, jobs, logs and stop, against a real head with a dashboard and token authentication."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from raytrainer.checkpoints import Store
from tests.e2e.words import write_words
from tests.waiting import until

pytestmark = pytest.mark.ray
TOKEN = "a-token-of-this-test-and-of-no-other-one-0123456789"


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Head:
    """A Ray head of its own, in the foreground of a child process."""

    def __init__(self, folder: Path) -> None:
        self.port, self.dashboard = closed_port(), closed_port()
        # Not below pytest's folder: the path of a socket has 107 bytes at most.
        self.scratch = tempfile.mkdtemp(prefix="ray")
        self.address = f"http://127.0.0.1:{self.dashboard}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "HOME": str(folder),
            "PYTHONPATH": os.getcwd(),
            "OMP_NUM_THREADS": "1",
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
        }
        ports = ["--port", str(self.port), "--dashboard-host", "127.0.0.1", "--dashboard-port", str(self.dashboard)]
        # The one of the session's Ray has the usual port; without one of its own, no job of this head would begin.
        ports += ["--dashboard-agent-listen-port", str(closed_port())]
        spare = ["--num-cpus", "3", "--node-ip-address", "127.0.0.1", "--temp-dir", self.scratch]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *ports, *spare]
        with (folder / "head.log").open("w") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        until(lambda: self.run("jobs").returncode == 0, "the head")

    def command(self, *arguments: str) -> list[str]:
        name, *rest = arguments
        return [sys.executable, "-m", "raytrainer", name, "--address", self.address, *rest]

    def run(self, *arguments: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env={**self.environment, **environment},
            cwd=folder,
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
        )


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    head = Head(tmp_path_factory.mktemp("head"))
    yield head
    # By pid: an end in good order waits half a minute for the jobs' agents.
    processes = [psutil.Process(head.process.pid), *psutil.Process(head.process.pid).children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, 30)
    shutil.rmtree(head.scratch, ignore_errors=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a config, data that .gitignore names, and what no job needs."""
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "config").write_text("[core]\n")
    (folder / ".gitignore").write_text("*.jsonl\nrun.yaml\n")
    write_words(folder, scaling={"num_workers": 1}, run={"storage_path": str(tmp_path / "runs")}, mlflow=None)
    return folder


def test_a_config_is_trained_and_followed_and_goes_on_when_it_is_submitted_again(head: Head, project: Path) -> None:
    done = head.run("submit", "run.yaml", folder=project)
    assert done.returncode == 0, done.stderr + done.stdout
    # The config and its data, though .gitignore names them all.
    assert "sending 5 files" in done.stderr
    assert "eval_loss" in done.stdout
    assert json.loads((project.parent / "runs" / "words" / "run.json").read_text())["state"] == "finished"
    again = head.run("submit", "run.yaml", folder=project)
    assert again.returncode == 0
    assert "is finished" in again.stdout


@pytest.mark.slow
def test_a_job_whose_driver_is_killed_goes_on_when_it_is_tried_again(head: Head, project: Path) -> None:
    settings = ["run.yaml", "training.max_steps=300", "training.save_steps=10", "name=killed"]
    job = head.run("submit", "--no-wait", *settings, folder=project).stdout.split()[1]
    checkpoints = project.parent / "runs" / "killed" / "checkpoints"
    until(lambda: any(checkpoints.glob("checkpoint-*/manifest.json")), "the first checkpoint")
    for process in psutil.Process(head.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "name=killed" in process.cmdline() and "raytrainer" in " ".join(process.cmdline()[:3]):
                process.kill()
    followed = head.run("logs", job, "--follow")
    assert followed.returncode == 128 + signal.SIGKILL, followed.stdout
    again = head.run("submit", *settings, folder=project)
    assert again.returncode == 0, again.stdout + again.stderr
    begun = next(line for line in again.stdout.splitlines() if "examples a step" in line)
    assert "step 0/" not in begun and "step 0 of" not in begun, begun
    assert json.loads((checkpoints.parent / "run.json").read_text())["state"] == "finished"


def test_the_exit_status_is_the_jobs(head: Head, tmp_path: Path) -> None:
    program = "import os; print('hello from', os.environ['COLOUR']); raise SystemExit(7)"
    done = head.run("submit", "--env", "COLOUR=blue", "--", sys.executable, "-c", program, folder=tmp_path)
    assert (done.returncode, "hello from blue" in done.stdout) == (7, True)
    job = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("submitted "))
    assert "failed" in next(line for line in head.run("jobs").stdout.splitlines() if job in line)
    assert "hello from blue" in head.run("logs", job).stdout


@pytest.mark.parametrize(
    ("token", "says"), [("", "wants a token"), ("another-token-that-is-wrong-0123456789", "refuses")]
)
def test_who_has_no_token_is_refused(head: Head, token: str, says: str, tmp_path: Path) -> None:
    mode = {"RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_TOKEN": "", "RAY_AUTH_MODE": "disabled"}
    done = head.run("submit", "--", "true", folder=tmp_path, **mode)
    assert done.returncode == 2
    assert says in done.stderr


def test_a_job_is_stopped(head: Head, tmp_path: Path) -> None:
    forever = "import time; print('begun', flush=True)\nwhile True: time.sleep(1)"
    job = head.run("submit", "--no-wait", "--", sys.executable, "-c", forever, folder=tmp_path).stdout.split()[1]
    until(lambda: "begun" in head.run("logs", job).stdout, "the job's first line")
    stopped = head.run("stop", job)
    assert (stopped.returncode, stopped.stdout.strip()) == (0, f"{job}: stopped")


@pytest.mark.slow
def test_a_training_that_is_stopped_saves(head: Head, project: Path) -> None:
    """Ray kills a job 3 s after SIGTERM; a submitted one has longer."""
    endless = ["training.max_steps=1000000", "training.eval_strategy=no", "training.save_steps=1000000", "name=stopped"]
    job = head.run("submit", "--no-wait", "run.yaml", *endless, folder=project).stdout.split()[1]
    until(lambda: "/1000000" in head.run("logs", job).stdout, "the training")
    assert head.run("stop", job).stdout.strip() == f"{job}: stopped"
    run = project.parent / "runs" / "stopped"
    assert json.loads((run / "run.json").read_text())["state"] == "interrupted"
    (manifest,) = Store(str(run / "checkpoints")).manifests()
    assert f"saved at step {manifest.step}" in head.run("logs", job).stdout


@pytest.mark.slow
def test_ctrl_c_twice_stops_the_job(head: Head, tmp_path: Path) -> None:
    forever = "import time; print('begun', flush=True)\nwhile True: time.sleep(1)"
    with (tmp_path / "log").open("w") as log:
        program = subprocess.Popen(
            head.command("submit", "--", sys.executable, "-c", forever),
            env=head.environment,
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
    said = (tmp_path / "log").read_text
    until(lambda: "begun" in said().split("submitted")[-1], "the job's first line")
    program.send_signal(signal.SIGINT)
    until(lambda: "once more stops" in said(), "the question")
    program.send_signal(signal.SIGINT)
    assert program.wait(120) == 130
    job = next(line.split()[1] for line in said().splitlines() if line.startswith("submitted "))
    assert "stopped" in next(line for line in head.run("jobs").stdout.splitlines() if job in line)


def test_nobody_at_the_address_is_said_at_once(tmp_path: Path) -> None:
    head = Head.__new__(Head)
    head.address, head.environment = f"http://127.0.0.1:{closed_port()}", dict(os.environ)
    done = head.run("jobs", folder=tmp_path)
    assert done.returncode == 2
    assert "--address" in done.stderr

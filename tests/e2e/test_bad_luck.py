"""What goes wrong around a run: machines that are taken back, names used twice, homes, paths, clocks, company."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from mlflow import MlflowClient

from raytrainer.checkpoints import Store
from raytrainer.manifests import damage
from tests.e2e.test_interrupt import Program
from tests.e2e.words import ROOT, command_line, environment, raytrainer, write_words
from tests.ray.faults import processes_with
from tests.waiting import until

pytestmark = pytest.mark.ray
ENDLESS = ("training.max_steps=1000000", "training.eval_strategy=no")


class Alone:
    """Programs with a Ray of their own each, and nothing of this process's; what they leave running is found."""

    def __init__(self, folder: Path, **variables: str | None) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex
        hidden = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", *(name for name, value in variables.items() if value is None))
        self.environment = {name: value for name, value in os.environ.items() if name not in hidden}
        self.environment |= {name: value for name, value in variables.items() if value is not None}
        self.environment |= {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "BAD_LUCK": self.mark}

    def start(self, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*before, *command_line(*arguments)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )

    def run(self, *arguments: str, status: int = 0, before: tuple[str, ...] = ()) -> str:
        with self.start(*arguments, before=before) as program:
            printed, _ = program.communicate(timeout=300)
        assert program.returncode == status, printed
        until(lambda: not processes_with("BAD_LUCK", self.mark), "its processes to go")
        return printed


def outcome(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "outcome.json").read_text())
    return read


def steps(run: Path) -> list[int]:
    """Return the steps of a run's checkpoints, oldest first, all of which are whole."""
    store = Store(str(run / "checkpoints"))
    found = store.manifests()
    assert [damage(manifest, Path(store.address(manifest.step))) for manifest in found] == [None] * len(found)
    return [manifest.step for manifest in found]


def saved_by(printed: str) -> int:
    """Return the step at which a program saved that had to stop."""
    saved = re.search(r"saved at step (\d+)\. To go on: raytrainer resume ", printed)
    assert saved and "Traceback" not in printed, printed
    return int(saved[1])


# A machine that is taken back, as Kubernetes, docker, Slurm and systemd say it


@pytest.mark.usefixtures("ray_cluster")
def test_sigterm_saves_and_nobody_else_trains_into_the_folder_meanwhile(tmp_path: Path) -> None:
    write_words(tmp_path)
    run = tmp_path / "runs" / "words"
    first = Program(command_line("train", "run.yaml", *ENDLESS), tmp_path, environment())
    first.until("/1000000  epoch")
    refused = raytrainer("train", "run.yaml", "run.existing=replace", folder=tmp_path, status=2)
    assert f"name = 'words': process {first.process.pid} on {socket.gethostname()} trains into {run}" in refused
    # Kubernetes says it once, others to each process of a group: twice is no hurry.
    for _ in range(2):
        first.process.send_signal(signal.SIGTERM)
    rest = first.ends_with(130)
    step = saved_by(rest)
    assert "SIGTERM: saving a checkpoint, then stopping\n" in rest
    assert steps(run)[-1] == step
    assert json.loads((run / "run.json").read_text())["state"] == "interrupted"
    (recorded,) = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["0"])
    assert recorded.info.status == "KILLED"
    changes = ["run.existing=resume", f"training.max_steps={step + 5}"]
    assert f"resumed at step {step} " in raytrainer("train", "run.yaml", *changes, folder=tmp_path)
    assert outcome(run)["steps"] == step + 5
    assert not list(tmp_path.glob("runs/.*.lock"))


@pytest.mark.slow
def test_two_runs_of_one_name_that_begin_at_once(tmp_path: Path) -> None:
    write_words(tmp_path, mlflow=None)
    alone = Alone(tmp_path)
    programs = [alone.start("train", "run.yaml") for _ in range(2)]
    printed = [program.communicate(timeout=300)[0] for program in programs]
    assert sorted(program.returncode for program in programs) == [0, 2], printed
    refused = printed[[program.returncode for program in programs].index(2)]
    assert "trains into" in refused or "there is a run of that name" in refused
    assert outcome(tmp_path / "runs" / "words")["steps"] == 40
    until(lambda: not processes_with("BAD_LUCK", alone.mark), "the programs' processes to go")


SCRIPT = """
from tests.ray.recipes import COMMON, classify_words
from transformers import Trainer, TrainingArguments

changes = {"max_steps": 1_000_000, "eval_strategy": "no", "logging_steps": 10, "ddp_find_unused_parameters": False}
Trainer(args=TrainingArguments("out", **{**COMMON, **changes}), **classify_words()).train()
"""


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_sigterm_to_a_script(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    program = Program(command_line("run", "--no-mlflow", "-n", "2", "train.py"), tmp_path, environment())
    program.until("/1000000  epoch")
    program.process.send_signal(signal.SIGTERM)
    step = saved_by(program.ends_with(130))
    (manifest,) = Store(str(tmp_path / "out")).manifests()
    assert manifest.step == step


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_sigterm_to_a_sweep(tmp_path: Path) -> None:
    write_words(tmp_path, mlflow=None, scaling={"num_workers": 1})
    sweep = {
        "base": "run.yaml",
        "search_space": {"training.learning_rate": {"choice": [0.01, 0.02]}},
        "tune": {"metric": "eval_loss", "mode": "min", "num_samples": 3, "max_concurrent_trials": 1},
        "training": {"max_steps": 200, "eval_steps": 10, "save_steps": 10},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    folder = tmp_path / "runs" / "words-sweep"
    program = Program(command_line("tune", "sweep.yaml"), tmp_path, environment())
    until(lambda: bool(list(folder.glob("trials/*/end.json"))), "the first trial")
    for _ in range(2):
        program.process.send_signal(signal.SIGTERM)
    assert "stopped. To go on: raytrainer resume " in program.ends_with(130)
    assert json.loads((folder / "sweep.json").read_text())["state"] == "interrupted"
    raytrainer("resume", str(folder), folder=tmp_path)
    ends = [json.loads(file.read_text())["state"] for file in sorted(folder.glob("trials/*/end.json"))]
    assert ends == ["finished"] * 3


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


class Cluster:
    """A head without slots and two nodes with two each, every one as a pod of KubeRay has it: ``ray start --block``."""

    def __init__(self) -> None:
        self.scratch = tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True)
        hidden = [name for name in os.environ if name.startswith("RAY_")]
        self.environment = {name: value for name, value in os.environ.items() if name not in hidden}
        self.environment |= {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
        self.address = f"127.0.0.1:{_closed_port()}"
        self.nodes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        port = self.address.rpartition(":")[2]
        head = ["--head", "--port", port, "--num-cpus", "0", "--include-dashboard", "false"]
        self._start(*head, "--temp-dir", self.scratch.name)
        until(self._answers, "the head")
        for _ in range(2):
            self._start("--address", self.address, "--num-cpus", "2")
        return self

    def __exit__(self, *_: object) -> None:
        processes = [psutil.Process(node.pid) for node in self.nodes if node.poll() is None]
        processes += [child for process in processes for child in process.children(recursive=True)]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, 30)
        self.scratch.cleanup()

    def _start(self, *arguments: str) -> None:
        ports = ["--dashboard-agent-listen-port", str(_closed_port()), "--node-ip-address", "127.0.0.1"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *ports, *arguments]
        log = open(f"{self.scratch.name}.{len(self.nodes)}.log", "wb")  # noqa: SIM115  # the node writes it
        self.nodes.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=log))

    def _answers(self) -> bool:
        host, _, port = self.address.rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return True
        return False

    def node_of(self, process: int) -> subprocess.Popen[bytes]:
        """Return the node that a worker's process is of: all of a node's are children of one ``ray start``."""
        above = {each.pid for each in psutil.Process(process).parents()}
        return next(node for node in self.nodes if node.pid in above)


def _closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


OWN = """
import os
from pathlib import Path
from transformers import TrainerCallback
from tests.ray.recipes import classify_words
from transformers import Trainer

class Notes(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        Path(f"pid-{args.process_index}").write_text(str(os.getpid()))
        if args.process_index == 0:
            with open("diary", "a") as file:
                print(state.global_step + 1, file=file)

def build(arguments):
    return Trainer(args=arguments, callbacks=[Notes()], **classify_words())
"""


@pytest.mark.slow
def test_sigterm_to_a_node_moves_the_run_and_costs_no_step(tmp_path: Path, cluster: Cluster) -> None:
    """What Kubernetes does to a worker's pod: ``ray start`` gives notice for its node, and the run has left in time."""
    (tmp_path / "mine.py").write_text(OWN)
    config = {
        **{"name": "moved", "trainer": "mine:build", "mlflow": None, "scaling": {"num_workers": 2}},
        "training": {
            "max_steps": 1_000_000,
            "per_device_train_batch_size": 4,
            "save_steps": 100_000,
            "logging_steps": 10,
        },
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    variables = {**cluster.environment, "RAY_ADDRESS": cluster.address, "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5"}
    program = Program(command_line("train", "run.yaml"), tmp_path, variables)
    program.until("/1000000  epoch")
    node = cluster.node_of(int((tmp_path / "pid-0").read_text()))
    node.send_signal(signal.SIGTERM)
    program.until("resumed at step ")
    step = int(program.printed.splitlines()[-1].partition("resumed at step ")[2].split()[0])
    program.until("/1000000  epoch")
    assert cluster.node_of(int((tmp_path / "pid-0").read_text())) is not node
    node.wait(60)
    program.process.send_signal(signal.SIGTERM)
    assert saved_by(program.ends_with(130)) > step
    seen = [int(line) for line in (tmp_path / "diary").read_text().split()]
    assert seen == list(range(1, len(seen) + 1)), "no step was done twice, none was lost"


# Homes and paths


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write into, not even root."""
    folder = tmp_path / "home"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mount is not permitted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_home_that_cannot_be_written(read_only: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    write_words(folder)
    Alone(folder, HOME=str(read_only), HF_HOME=None).run("train", "run.yaml")
    assert outcome(folder / "runs" / "words")["metrics"]["test_accuracy"] > 0.9


@pytest.mark.slow
def test_no_home_and_a_user_without_a_name(tmp_path: Path) -> None:
    """As in a pod that runs as any user: no variable, and no entry in /etc/passwd."""
    nameless = ("unshare", "--mount", "sh", "-c", 'mount --bind /dev/null /etc/passwd && exec "$@"', "-")
    if subprocess.run([*nameless, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mount is not permitted")
    write_words(tmp_path)
    Alone(tmp_path, HOME=None, HF_HOME=None, USER=None, LOGNAME=None).run("train", "run.yaml", before=nameless)
    assert outcome(tmp_path / "runs" / "words")["metrics"]["test_accuracy"] > 0.9
    here = {"eval.jsonl", "test.jsonl", "train.jsonl", "run.yaml", "runs", "mlflow.db", "mlruns"}
    assert {path.name for path in tmp_path.iterdir()} == here, "no folder called ~, nor anything else"


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_a_path_with_spaces_and_letters_of_any_language(locale: str, tmp_path: Path) -> None:
    folder = tmp_path / "zwei Läufe, 两次 #1 100%"
    folder.mkdir()
    write_words(folder, run={"storage_path": "meine Läufe?"})
    alone = Alone(folder, LC_ALL=locale)
    first = alone.start("train", "run.yaml", *ENDLESS)
    assert first.stdout is not None
    printed = ""
    while "/1000000  epoch" not in printed:
        line = first.stdout.readline()
        assert line, printed
        printed += line
    first.send_signal(signal.SIGTERM)
    rest, _ = first.communicate(timeout=120)
    assert first.returncode == 130, printed + rest
    step = saved_by(rest)
    run = folder / "meine Läufe?" / "words"
    assert f"raytrainer resume '{run}'" in rest
    changes = ["run.existing=resume", f"training.max_steps={step + 5}"]
    assert f"resumed at step {step} " in alone.run("train", "run.yaml", *changes)
    assert outcome(run)["metrics"]["test_accuracy"] > 0.9
    (recorded,) = MlflowClient(f"sqlite:///{folder}/mlflow.db").search_runs(["0"])
    assert recorded.info.status == "FINISHED"


# Time, and company


CLOCK = """
import os, time
_time, _time_ns = time.time, time.time_ns
_back = lambda: 86400 if os.path.exists(os.environ["CLOCK_IS_BACK"]) else 0
time.time = lambda: _time() - _back()
time.time_ns = lambda: _time_ns() - _back() * 10**9
"""


@pytest.mark.slow
def test_a_clock_that_is_set_back_by_a_day(tmp_path: Path) -> None:
    """In all processes, in the middle of a run and between two: what was saved last stays the newest."""
    write_words(tmp_path, mlflow=None, run={"keep": {"last": 2}})
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    alone, run = Alone(tmp_path, CLOCK_IS_BACK=str(tmp_path / "back")), tmp_path / "runs" / "words"
    first = alone.start("train", "run.yaml", *ENDLESS, "training.save_steps=20")
    until(lambda: len(list(run.glob("checkpoints/*/manifest.json"))) >= 2, "two checkpoints")
    before = max(Store(str(run / "checkpoints")).steps())
    (tmp_path / "back").touch()
    until(lambda: len([step for step in Store(str(run / "checkpoints")).steps() if step > before]) >= 2, "two more")
    first.send_signal(signal.SIGTERM)
    printed, _ = first.communicate(timeout=120)
    step = saved_by(printed)
    assert steps(run)[-1] == step and len(steps(run)) == 2 and min(steps(run)) > before
    # The next one does not know what this one knew.
    (tmp_path / "back").unlink()
    changes = ["run.existing=resume", f"training.max_steps={step + 5}", "training.save_steps=2"]
    assert f"resumed at step {step} " in alone.run("train", "run.yaml", *changes)
    assert all(seconds >= 0 for seconds in outcome(run)["seconds"].values())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_four_runs_at_once_on_one_machine(tmp_path: Path) -> None:
    """In one folder, with one MLflow file that none of them finds there, and one home without a token."""
    write_words(tmp_path, scaling={"num_workers": 1})
    (tmp_path / "home").mkdir()
    alone = Alone(tmp_path, HOME=str(tmp_path / "home"))
    names = ["a", "b", "c", "d"]
    programs = [alone.start("train", "run.yaml", f"name={name}") for name in names]
    printed = [program.communicate(timeout=900)[0] for program in programs]
    assert [program.returncode for program in programs] == [0] * 4, "\n\n".join(printed)
    results = [outcome(tmp_path / "runs" / name) for name in names]
    assert [result["steps"] for result in results] == [40] * 4
    assert len({result["metrics"]["eval_loss"] for result in results}) == 1, "company changes no figure"
    recorded = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["0"])
    assert sorted(run.info.run_name for run in recorded) == names
    assert {run.info.status for run in recorded} == {"FINISHED"}
    until(lambda: not processes_with("BAD_LUCK", alone.mark), "the programs' processes to go")

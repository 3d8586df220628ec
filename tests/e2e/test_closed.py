"""What a Ray that raytrainer starts shows to others while it trains: nothing to the network, little without a token."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
import pytest

from tests.e2e.words import ROOT, command_line
from tests.ray.faults import processes_with
from tests.waiting import until

pytestmark = pytest.mark.ray

MODULE = """
import time
from pathlib import Path

import datasets
from transformers import AutoModelForSequenceClassification, BertConfig, Trainer, TrainerCallback

class Held(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        Path(f"held-{args.process_index}").touch()
        while state.global_step == 2 and not Path("go").exists():
            time.sleep(0.02)

def build(arguments):
    rows = [{"input_ids": [1 + i % 7, 2, 3], "labels": i % 2} for i in range(64)]
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = AutoModelForSequenceClassification.from_config(BertConfig(vocab_size=16, num_labels=2, **sizes))
    return Trainer(model, arguments, train_dataset=datasets.Dataset.from_list(rows), callbacks=[Held()])
"""
CONFIG = """
name: held
trainer: held:build
training: {max_steps: 4, eval_strategy: "no", ddp_find_unused_parameters: false}
scaling: {num_workers: 2}
mlflow: null
"""
# One call for each of Ray's services that is answered without an argument.
CALLS = {
    "gcs_server": ["NodeInfoGcsService/GetAllNodeInfo"],
    "raylet": ["NodeManagerService/GetNodeStats", "ObjectManagerService/Pull"],
    "agent": ["ReporterService/GetTraceback"],
    "worker": ["CoreWorkerService/GetCoreWorkerStats"],
}
METRICS = "ray::DashboardAgent"


@dataclass(frozen=True)
class Listener:
    """A socket that takes connections or datagrams, and the process that has it."""

    host: str
    port: int
    process: str


@dataclass(frozen=True)
class Training:
    """A training on two workers, held at its third step.

    Args:
        home: the user's home folder.
        listeners: of all of its processes.
    """

    home: Path
    listeners: list[Listener]

    @property
    def address(self) -> str:
        (port,) = [each.port for each in self.listeners if each.process == "gcs_server"]
        return f"127.0.0.1:{port}"

    @property
    def token(self) -> str:
        return (self.home / ".ray" / "auth_token").read_text()


def listeners(pids: set[int]) -> list[Listener]:
    found = []
    for each in psutil.net_connections("inet"):
        if each.pid in pids and (each.status == psutil.CONN_LISTEN or each.type == socket.SOCK_DGRAM):
            found.append(Listener(each.laddr.ip, each.laddr.port, psutil.Process(each.pid).name()))
    return found


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Training]:
    folder, mark = tmp_path_factory.mktemp("held"), uuid.uuid4().hex
    home = folder / "home"
    home.mkdir()
    (folder / "held.py").write_text(MODULE)
    (folder / "run.yaml").write_text(CONFIG)
    hidden = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {**hidden, "HOME": str(home), "PYTHONPATH": str(ROOT), "RAYTRAINER_TEST": mark}
    # A umask as on most machines: what is private is so by itself.
    with (folder / "output").open("w") as output:
        program = subprocess.Popen(
            command_line("train", "run.yaml"),
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            umask=0o022,
        )
    try:
        held = [folder / f"held-{rank}" for rank in (0, 1)]
        until(lambda: program.poll() is not None or all(file.exists() for file in held), "the training")
        assert program.poll() is None, (folder / "output").read_text()
        # Also those that went away from under the program; Ray's agents write their names over their environment.
        of_it = [psutil.Process(program.pid), *psutil.Process(program.pid).children(recursive=True)]
        everything = {process.pid for process in [*of_it, *processes_with("RAYTRAINER_TEST", mark)]}
        yield Training(home, listeners(everything))
        (folder / "go").touch()
        assert program.wait(120) == 0, (folder / "output").read_text()
    finally:
        program.kill()
        for process in processes_with("RAYTRAINER_TEST", mark):
            with contextlib.suppress(psutil.Error):
                process.kill()


def test_everything_listens_on_loopback(training: Training) -> None:
    # Ray's own processes, both workers with their group's sockets, the first one with the group's store.
    of_workers = [each for each in training.listeners if each.process == "ray::RayTrainWorker"]
    assert len(of_workers) == 5
    assert {"gcs_server", "raylet", "ray::RuntimeEnvAgent", METRICS} < {each.process for each in training.listeners}
    assert {each.host.removeprefix("::ffff:") for each in training.listeners} == {"127.0.0.1"}, training.listeners


def grpc_answers(port: int, token: str | None) -> set[grpc.StatusCode]:
    """Return what the services of a port say to a caller; one that is not there says UNIMPLEMENTED."""
    answers = set()
    metadata = [("authorization", f"Bearer {token}")] if token else None
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for call in [call for calls in CALLS.values() for call in calls]:
            try:
                channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=20, metadata=metadata)
                answers.add(grpc.StatusCode.OK)
            except grpc.RpcError as error:
                answers.add(error.code())
    return answers - {grpc.StatusCode.UNIMPLEMENTED}


def http_status(port: int, token: str | None) -> int | None:
    """Return the status with which a port answers; None for one that does not speak HTTP/1."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        raise
    except Exception:  # the server's own tongue
        return None


def test_rays_ports_ask_for_the_token(training: Training) -> None:
    asked, open_to_all = [], []
    for each in training.listeners:
        if each.process == "ray::RayTrainWorker" and each.host == "127.0.0.1":
            continue  # torch's and gloo's: they know no token
        status = http_status(each.port, None)
        if status is None:
            assert grpc_answers(each.port, None) == {grpc.StatusCode.UNAUTHENTICATED}, each
            assert grpc_answers(each.port, "0" * 64) == {grpc.StatusCode.UNAUTHENTICATED}, each
            assert grpc_answers(each.port, training.token) == {grpc.StatusCode.OK}, each
            asked.append(each.process)
        elif status == 401:
            assert http_status(each.port, training.token) != 401
            asked.append(each.process)
        else:
            open_to_all.append((each.process, status))
    assert {"gcs_server", "raylet", "ray::RayTrainWorker", "ray::RuntimeEnvAgent", METRICS} < set(asked)
    # Figures about this machine's load, which Prometheus would read: of the agent, and of Ray's head.
    assert (METRICS, 200) in open_to_all and set(open_to_all) <= {(METRICS, 200), ("python", 200)}


def test_the_token_is_the_users_own(training: Training) -> None:
    file = training.home / ".ray" / "auth_token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(training.token) == 64
    assert [path.name for path in file.parent.iterdir()] == ["auth_token"]


def test_a_program_with_the_token_connects_and_none_without(training: Training, tmp_path: Path) -> None:
    connect = "import ray; from raytrainer.cluster import connect; connect(1); print('in', ray.nodes()[0]['Alive'])"
    mine = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "RAY_ADDRESS": training.address}
    for home, said in ((training.home, "in True"), (tmp_path, "no authentication token was found")):
        environment = {**mine, "HOME": str(home), "RAY_AUTH_MODE": "token"}
        done = subprocess.run(
            [sys.executable, "-c", connect], env=environment, capture_output=True, text=True, timeout=120
        )
        assert said in done.stdout + done.stderr

"""Several hosts, each with an address, a name and processes of its own; one of them is cut off."""

from __future__ import annotations

import pickle
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.hosts import Host, Network, reason_against
from tests.ray.faults import Diary, Holds, Trained
from tests.ray.recipes import classify_words
from tests.waiting import until

pytestmark = pytest.mark.ray
SCRIPTS = Path(__file__).parent / "scripts"
# The head takes a host for dead when it does not answer for ten seconds; by default that takes a minute.
HEALTH = {"RAY_health_check_initial_delay_ms": "0", "RAY_health_check_period_ms": "500"}
HEALTH |= {"RAY_health_check_timeout_ms": "2000", "RAY_health_check_failure_threshold": "4"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    shutil.copytree(SCRIPTS / "on_hosts", project)
    classify_words()["train_dataset"].save_to_disk(project / "data")
    return project


@pytest.fixture
def network(project: Path) -> Iterator[Network]:
    if reason := reason_against():
        pytest.skip(reason)
    with Network(project) as network:
        yield network


@pytest.mark.slow
def test_a_host_that_is_cut_off(network: Network, project: Path, tmp_path: Path, undisturbed: Trained) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    head, *others = [network.add(name) for name in ("head", "left", "right")]
    network.ray(head, log=tmp_path / "head.log", **HEALTH)
    for host in others:
        network.ray(host, "--num-cpus=2", log=tmp_path / f"{host.name}.log")
    network.until_nodes(3)

    program = [sys.executable, str(project / "program.py"), str(shared)]
    environment = network.environment(RAY_ADDRESS=network.address)
    with (tmp_path / "program.log").open("w") as log:
        running = head.start(*program, env=environment, stdout=log, stderr=log)
    holds = Holds(shared, 7)
    holds.wait()
    until((shared / "run/checkpoints/checkpoint-6/manifest.json").exists, "the checkpoint")
    places = [(shared / f"host-{rank}").read_text() for rank in range(2)]
    assert sorted(places) == ["left False", "right False"]
    cut, other = sorted(others, key=lambda host: not places[0].startswith(host.name))
    network.cut(cut)
    holds.release()
    assert running.wait(300) == 0, (tmp_path / "program.log").read_text()

    assert [(shared / f"host-{rank}").read_text() for rank in range(2)] == [f"{other.name} False"] * 2
    assert Diary(shared).steps() == [*range(1, 9), *range(7, 15)]
    trained: Trained = pickle.loads((shared / "trained.pickle").read_bytes())
    trained.assert_equal(undisturbed)


@pytest.mark.slow
def test_addresses(network: Network, tmp_path: Path) -> None:
    """The head has no slots: a script that runs there runs on a Ray of its own."""
    head, right, laptop = [network.add(name) for name in ("head", "right", "laptop")]
    network.ray(head, log=tmp_path / "head.log")
    network.ray(right, "--num-cpus=2", log=tmp_path / "right.log")
    network.until_nodes(2)
    (tmp_path / "script.py").write_text(
        "import os, socket; print(os.environ['WORLD_SIZE'], 'on', socket.gethostname())"
    )

    def run(host: Host, *options: str, **variables: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "raytrainer", "run", "--no-mlflow", *options, "script.py"]
        environment = network.environment(**variables)
        done = host.run(*command, env=environment, cwd=tmp_path, capture_output=True, timeout=300)
        return done.returncode, done.stderr if done.returncode else done.stdout

    assert run(head, "-n2", "--address", network.address) == (0, "2 on right\n")
    assert run(right, "--address", "auto") == (0, "1 on right\n")
    assert run(head, "-n2", RAY_ADDRESS="auto") == (0, "2 on right\n")
    assert run(head, "-n3") == (0, "3 on head\n")
    assert run(head, "-n3", "--address", "local", RAY_ADDRESS=network.address) == (0, "3 on head\n")
    status, said = run(laptop, "--address", network.address)
    assert status == 2 and f"--address = '{network.address}': a cluster answers there, and this machine is none" in said
    assert f"raytrainer submit --address http://{head.address}:8265" in said
    status, said = run(laptop, RAY_ADDRESS="auto")
    assert status == 2 and "RAY_ADDRESS = 'auto': Could not find any running Ray instance" in said
    # A program that has connected through Ray Client, which would break later.
    client = f"import ray; ray.init('ray://{head.address}:10001'); import raytrainer.cluster as c; c.connect(1)"
    done = laptop.run(sys.executable, "-c", client, env=network.environment(), capture_output=True)
    assert "ResourcesError: ray.init = 'ray://': a program behind Ray Client" in done.stderr
    status, said = run(laptop, "--address", f"{head.address}:9")
    assert status == 2 and "nobody answers there" in said

"""A cluster with an autoscaler: a sweep makes it grow, and a request is held against what it can become."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raytrainer.checkpoints import Store
from raytrainer.sweep.record_files import read_sweep, read_trials
from tests.e2e.hosts import Network, reason_against
from tests.e2e.words import write_words
from tests.ray.test_sweep_faults import write_sweep
from tests.waiting import until

pytestmark = pytest.mark.ray

# Ray's own provider for tests: each node is a raylet beside the others. What Ray has to start it reads a missing file.
PROVIDER = {
    **{"type": "fake_multinode", "launch_multiple": True, "use_node_id_as_ip": True},
    **{"disable_node_updaters": True, "disable_launch_config_check": True},
}
CLUSTER = {
    **{"cluster_name": "growing", "provider": PROVIDER, "auth": {}, "docker": {}},
    **{"max_workers": 3, "upscaling_speed": 10.0, "idle_timeout_minutes": 0.05},
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "small": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 3},
    },
    "head_node_type": "ray.head.default",
    **{"file_mounts": {}, "cluster_synced_files": [], "file_mounts_sync_continuously": False},
    **{"rsync_exclude": [], "rsync_filter": [], "initialization_commands": [], "setup_commands": []},
    **{"head_setup_commands": [], "worker_setup_commands": []},
    **{"head_start_ray_commands": [], "worker_start_ray_commands": []},
}
FAKE = {"RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "0", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
AUTOSCALER = "an autoscaler for at most 3 node(s), 3 of small (1 CPU)"


@pytest.fixture
def network() -> Iterator[Network]:
    if reason := reason_against():
        pytest.skip(reason)
    with Network() as network:
        network.add("head")
        yield network


@pytest.fixture
def growing(network: Network, tmp_path: Path) -> Network:
    config = tmp_path / "cluster.json"
    config.write_text(json.dumps(CLUSTER))
    network.ray(network.hosts[0], f"--autoscaling-config={config}", log=tmp_path / "head.log", **FAKE)
    network.until_nodes(1)
    return network


LOOK = """
import ray
from raytrainer.autoscaler import autoscaler
ray.init(log_to_driver=False, logging_level="ERROR")
print(autoscaler())
"""


def look(network: Network) -> str:
    environment = network.environment(RAY_ADDRESS=network.address)
    command = [sys.executable, "-c", LOOK]
    done = network.hosts[0].run(*command, env=environment, stdout=subprocess.PIPE, check=True)
    return str(done.stdout.strip())


def raytrainer(network: Network, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command on the head; what it says on stderr is a file in the folder."""
    command = [sys.executable, "-m", "raytrainer", *arguments, "--address", network.address]
    with (folder / "said").open("w") as said, (folder / "output").open("w") as output:
        environment = network.environment()
        return network.hosts[0].start(*command, env=environment, cwd=folder, stdout=output, stderr=said)


def test_what_it_cannot_bring_is_refused(growing: Network, tmp_path: Path) -> None:
    assert look(growing) == AUTOSCALER
    write_words(tmp_path, mlflow=None)
    assert raytrainer(growing, tmp_path, "train", "run.yaml", "scaling.num_workers=4").wait(120) == 2
    said = (tmp_path / "said").read_text()
    assert "num_workers = 4: each worker asks for 1 CPU; the cluster has 0 CPU on 1 node(s), room for 0" in said
    assert f"and {AUTOSCALER}: with all of them room for 3 worker(s)" in said
    assert "ScalingConfig(num_workers=3, ...)" in said


@pytest.mark.slow
def test_a_sweep_makes_the_cluster_grow_and_leaves_it_to_shrink(growing: Network, tmp_path: Path) -> None:
    """Its trials stand still until all nodes are there, so without them it would never end."""
    notes = tmp_path / "notes"
    notes.mkdir()
    sweep = raytrainer(growing, tmp_path, "tune", write_sweep(tmp_path, 1), "data.hold=10", "tune.num_samples=3")
    growing.until_nodes(4)
    (notes / "gone").touch()
    status, said = sweep.wait(300), (tmp_path / "said").read_text()
    assert status == 0, said
    assert f"waiting for {AUTOSCALER}: 1 worker(s) ask for 1 CPU each; the cluster has 0 CPU on 1 node(s)" in said
    growing.until_nodes(1)
    folder = Store(str(tmp_path / "runs" / "sweep"))
    assert [trial.state for trial in read_trials(folder)] == ["finished"] * 3
    assert read_sweep(folder).concurrency == 3


@pytest.mark.slow
def test_a_run_waits_for_its_nodes(growing: Network, tmp_path: Path) -> None:
    write_words(tmp_path, mlflow=None)
    train = raytrainer(growing, tmp_path, "train", "run.yaml")
    status, said = train.wait(300), (tmp_path / "said").read_text()
    assert status == 0, said
    assert f"waiting for {AUTOSCALER}: 2 worker(s) ask for 1 CPU each" in said
    told = json.loads((tmp_path / "runs" / "words" / "outcome.json").read_text())
    assert told["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["_private", "v2"])
def test_an_autoscaler_on_another_machine(version: str, network: Network, tmp_path: Path) -> None:
    """As with KubeRay: the head is told to have none, and hears of it. What it could bring nobody knows."""
    other = network.add("other")
    network.ray(network.hosts[0], "--no-monitor", log=tmp_path / "head.log")
    network.until_nodes(1)
    assert look(network) == "None"
    command = [sys.executable, "-m", f"ray.autoscaler.{version}.monitor", f"--gcs-address={network.address}"]
    with other.start(*command, f"--logs-dir={tmp_path}", env=network.environment()):
        until(lambda: look(network) == "an autoscaler", "the autoscaler to be seen")
        other.end()

"""What lies in ``cluster/`` is what Kubernetes, Ray's cluster launcher, docker and Slurm take."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from raytrainer.launch.manifest import manifest, text
from tests.unit.kubernetes_schemas import all_mistakes, core_mistakes, mistakes, needs_core, needs_crds

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
KUBERAY = sorted((CLUSTER / "kuberay").glob("*.yaml"))
CONFIGS = sorted((CLUSTER / "kuberay/configs").glob("*.yaml"))
LAUNCHER = sorted((CLUSTER / "launcher").glob("*.yaml"))
DOCKER = sorted((CLUSTER / "docker").glob("*.Dockerfile"))
BY_NAME = {"ids": lambda path: path.name}


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def test_everything_is_found() -> None:
    assert (len(KUBERAY), len(CONFIGS), len(LAUNCHER), len(DOCKER)) == (10, 5, 4, 4)


# kuberay/


@pytest.mark.parametrize("config", CONFIGS, **BY_NAME)
def test_an_example_is_what_the_command_makes(config: Path) -> None:
    made = manifest(str(config), [], "RayCluster" if config.name.startswith("raycluster") else "RayJob")
    assert (CLUSTER / "kuberay" / config.name).read_text() == "---\n".join(map(text, made.values())), (
        f"raytrainer manifest cluster/kuberay/configs/{config.name} --to cluster/kuberay/{config.name} makes it anew"
    )
    head = config.read_text().split("\nbase:")[0]
    assert f"raytrainer manifest cluster/kuberay/configs/{config.name}" in head


@needs_crds
@pytest.mark.parametrize("path", KUBERAY, **BY_NAME)
def test_kuberay_takes_it(path: Path) -> None:
    for document in documents(path):
        if document["apiVersion"].startswith("ray.io/"):
            assert mistakes(document) == []


@needs_core
@pytest.mark.parametrize("path", KUBERAY, **BY_NAME)
def test_kubernetes_takes_it(path: Path) -> None:
    for document in documents(path):
        if not document["apiVersion"].startswith("kueue."):
            assert core_mistakes(document) == []


@pytest.mark.parametrize("path", KUBERAY, **BY_NAME)
def test_nothing_is_root_and_no_secret_is_there(path: Path) -> None:
    for document in documents(path):
        assert document["kind"] != "Secret"
        if document["apiVersion"].startswith("ray.io/"):
            assert all_mistakes(document) == []
        pod = document.get("spec", {}).get("template", {}).get("spec", {})
        for container in pod.get("containers", []):
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert re.search(r":[\w.-]*\d[\w.-]*$", container["image"]), "an image has a version"
            secrets = [variable for variable in container["env"] if "PASSWORD" in variable["name"]]
            assert all("secretKeyRef" in variable["valueFrom"] for variable in secrets)


def test_runs_reach_mlflow_and_their_queue_and_volume() -> None:
    mlflow = {document["metadata"]["name"]: document for document in documents(CLUSTER / "kuberay/mlflow.yaml")}
    (rule,) = mlflow["mlflow"]["spec"]["ingress"]
    (callers,) = rule["from"][0]["podSelector"]["matchExpressions"]
    *_, job = documents(CLUSTER / "kuberay/rayjob-kueue.yaml")
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    assert callers["key"] in head["metadata"]["labels"]
    queue = documents(CLUSTER / "kuberay/kueue-queues.yaml")[-1]
    assert (queue["kind"], queue["metadata"]["name"]) == (
        "LocalQueue",
        job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"],
    )
    (claim,) = documents(CLUSTER / "kuberay/pvc.yaml")
    volumes = {volume.get("persistentVolumeClaim", {}).get("claimName") for volume in head["spec"]["volumes"]}
    assert claim["metadata"]["name"] in volumes and claim["spec"]["accessModes"] == ["ReadWriteMany"]


# launcher/


def ray_file(name: str) -> str:
    found = importlib.util.find_spec("ray")
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0], name).read_text()


@pytest.mark.parametrize("path", LAUNCHER, **BY_NAME)
def test_rays_launcher_takes_it(path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    (config,) = documents(path)
    schema = Draft7Validator(json.loads(ray_file("autoscaler/ray-schema.json")))
    assert [error.message for error in schema.iter_errors(config)] == []
    assert [error.message for error in schema.iter_errors({**config, "worker_nodes": {}})] != []
    validate_config(prepare_config(config))


@pytest.mark.parametrize("path", LAUNCHER, **BY_NAME)
def test_the_head_runs_no_workers_and_asks_for_a_token(path: Path) -> None:
    (config,) = documents(path)
    (head,) = [command for command in config["head_start_ray_commands"] if "--head" in command]
    types = config.get("available_node_types")
    assert types[config["head_node_type"]]["resources"] == {"CPU": 0} if types else "--num-cpus=0" in head
    assert "--dashboard-host" not in head
    assert "-e RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert config["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    # Without a list of its own Ray installs a nightly build.
    assert config["setup_commands"] == []


# docker/


def steps(path: Path) -> list[str]:
    joined = re.sub(r"\\\n\s*", " ", path.read_text())
    return [line for line in joined.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("path", DOCKER, **BY_NAME)
def test_an_image_is_pinned_and_not_root(path: Path) -> None:
    all_steps = steps(path)
    bases = [step.split("=", 1)[1] for step in all_steps if step.startswith("ARG BASE=")]
    bases += [step.split()[1] for step in all_steps if step.startswith("FROM") and "$" not in step]
    assert bases and all(re.search(r":[\w.-]*\d+\.\d+[\w.-]*$", base) for base in bases)
    user = all_steps.index("USER 1000")
    installs = [number for number, step in enumerate(all_steps) if "pip install" in step]
    assert user < min(installs) and not any(step.startswith("USER") for step in all_steps[user + 1 :])
    for number in installs:
        step = all_steps[number]
        assert re.search(r"-c \S+/(requirements\.lock|constraints\.txt)|--no-deps|\^torch==", step), step


@pytest.mark.parametrize("path", [path for path in DOCKER if path.stem != "mlflow"], **BY_NAME)
def test_a_change_of_code_rebuilds_nothing_heavy(path: Path) -> None:
    """Layers are built anew from the first one that changed: the code's come after all that is heavy."""
    final = steps(path)
    final = final[max(number for number, step in enumerate(final) if step.startswith("FROM")) :]
    heavy = max(number for number, step in enumerate(final) if "pip install -r" in step or "^torch==" in step)
    copied = {number: step.split()[-2] for number, step in enumerate(final) if step.startswith("COPY")}
    before = {name for number, name in copied.items() if number < heavy}
    assert before == {"requirements.lock", "names.txt"}
    assert {"raytrainer", "examples"} <= {name for number, name in copied.items() if number > heavy}
    listed = (ROOT / ".dockerignore").read_text().split()
    for step in final:
        if step.startswith("COPY") and "--from" not in step:
            names = [name for name in step.split()[1:-1] if not name.startswith("--")]
            assert all((ROOT / name).exists() and f"!{name}" in listed for name in names)


@pytest.mark.parametrize("path", [path for path in DOCKER if path.stem != "mlflow"], **BY_NAME)
def test_ray_can_fetch_a_zip_from_s3(path: Path) -> None:
    handler = ray_file("_private/runtime_env/protocol.py").split("def _handle_s3_protocol")[1].split("except")[0]
    taken = set(re.findall(r"(?:import|from) (\w+)", handler)) - {"open"}
    (packages,) = [step for step in steps(path) if "pip install -r" in step]
    # ray[default] brings smart_open.
    assert taken == {"boto3", "smart_open"} and " boto3 " in packages
    assert taken <= {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}


def test_the_names_that_an_image_installs(tmp_path: Path) -> None:
    for file in ("cluster/docker/names.py", "pyproject.toml"):
        (tmp_path / Path(file).name).write_text((ROOT / file).read_text())
    command = [sys.executable, str(tmp_path / "names.py"), "tasks", "examples", "optuna"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    assert {"ray[default,train,tune]>=2.60", "peft", "babel", "optuna>=5"} <= set(names)
    assert not any(name.startswith("raytrainer") for name in names)


# slurm/

_STUBS = {
    "scontrol": "echo node-1; echo node-2",
    "srun": 'echo "$@" >> steps; while [[ $1 == --* ]]; do shift; done; exec "$@"',
    # As on Debian, where a host's own name leads to its loopback.
    "hostname": "[[ $1 == --all-ip-addresses ]] && echo 192.0.2.1 10.0.0.1 || echo 127.0.1.1",
    "raytrainer": 'echo "$@" > ran; exit "$STATUS"',
    "ray": """[[ $1 == get-auth-token ]] && exit
printf '%s\\n' "$@" > asked
[[ $STATUS == no-ray ]] && exit 0
while [[ $1 != -- ]]; do shift; done; shift; "$@"; exit 0""",
}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    programs = tmp_path / "venv/bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f"PATH={programs}:$PATH")
    for name, script in _STUBS.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (programs / name).chmod(0o755)
    job = {"SLURM_JOB_NODELIST": "node-[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "123456"}
    return {**os.environ, **job, "SLURM_CPUS_PER_TASK": "32", "SLURM_GPUS_ON_NODE": "4", "VENV": str(tmp_path / "venv")}


@pytest.mark.parametrize(("status", "ends"), [("0", 0), ("3", 3), ("no-ray", 1)])
def test_a_slurm_job_ends_as_its_run_does(status: str, ends: int, slurm: dict[str, str], tmp_path: Path) -> None:
    """``ray symmetric-run`` itself ends with 0 where Ray could not be started."""
    command = ["bash", str(CLUSTER / "slurm/train.sbatch"), "train", "run.yaml", "training.max_steps=5"]
    done = subprocess.run(command, cwd=tmp_path, env={**slurm, "STATUS": status}, capture_output=True, text=True)
    assert done.returncode == ends, done.stderr
    assert not list(tmp_path.glob(".raytrainer-*"))
    ran = (tmp_path / "ran").read_text() if (tmp_path / "ran").exists() else None
    expected = "train run.yaml training.max_steps=5 run.existing=resume --address auto\n"
    assert ran == (None if status == "no-ray" else expected)
    whole = (tmp_path / "steps").read_text().splitlines()[-1]
    assert whole.startswith("--nodes=2 --cpus-per-task=32 ")


def test_ray_knows_the_options_of_symmetric_run(slurm: dict[str, str], tmp_path: Path) -> None:
    from ray.scripts.symmetric_run import curate_and_validate_ray_start_args, symmetric_run

    command = ["bash", str(CLUSTER / "slurm/train.sbatch"), "tune", "sweep.yaml"]
    subprocess.run(command, cwd=tmp_path, env={**slurm, "STATUS": "0"}, check=True)
    name, *asked = (tmp_path / "asked").read_text().splitlines()
    own = asked[: asked.index("--")]
    known = symmetric_run.make_context(name, [*own], resilient_parsing=True).params
    assert (known["address"], known["min_nodes"]) == ("192.0.2.1:23456", 2)
    options = [option.partition("=") for option in curate_and_validate_ray_start_args(own)]
    assert {name: value for name, _, value in options} == {"--num-cpus": "32", "--num-gpus": "4"}
    assert all(f'"{name}", required=False, type=int' in ray_file("scripts/scripts.py") for name, _, _ in options)

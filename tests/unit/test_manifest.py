"""``raytrainer manifest``: the pods that a config comes to, and what is in them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from raytrainer.cli import main
from raytrainer.config.kubernetes import Kubernetes
from raytrainer.config.loading import load_config
from raytrainer.config.sweep import load_sweep
from tests.unit.kubernetes_schemas import all_mistakes, cluster_of
from tests.unit.manifest_configs import NOTHING, RUN, SWEEP, changed, made_of

ROOT = Path(__file__).parents[2]


def job(folder: Path, changes: dict[str, Any], base: dict[str, Any] = RUN, kind: str = "RayJob") -> dict[str, Any]:
    *_, document = made_of(folder, changed(base, changes), kind).values()
    assert all_mistakes(document) == []
    return document


def group(document: dict[str, Any]) -> dict[str, Any]:
    (only,) = cluster_of(document)["workerGroupSpecs"]
    return dict(only)


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["spec"]["containers"]
    return dict(only)


def limits(document: dict[str, Any]) -> dict[str, str]:
    return dict(container(group(document)["template"])["resources"]["limits"])


# How many pods


@pytest.mark.parametrize(
    ("changes", "least", "most"),
    [
        ({"scaling.num_workers": 4}, 4, 4),
        ({"scaling.num_workers": 4, "kubernetes.workers_per_pod": 2}, 2, 2),
        ({"scaling.num_workers": 5, "kubernetes.workers_per_pod": 2}, 3, 3),
        ({"scaling.num_workers": [2, 8]}, 2, 8),
        ({"scaling.num_workers": [2, 8], "kubernetes.workers_per_pod": 8}, 1, 1),
        ({"scaling": {}}, 1, 1),
        ({"scaling.num_workers": 4, "kubernetes.workers_per_pod": 8}, 1, 1),
        ({"kubernetes.pods": 5}, 5, 5),
        ({"kubernetes.pods": [0, 5]}, 0, 5),
        ({"scaling": {"use_gpu": True}, "kubernetes.pods": [1, 3]}, 1, 3),
    ],
)
def test_pods_follow_from_workers(changes: dict[str, Any], least: int, most: int, tmp_path: Path) -> None:
    document = job(tmp_path, changes)
    one = group(document)
    assert (one["minReplicas"], one["replicas"], one["maxReplicas"]) == (least, least, most)
    assert cluster_of(document).get("enableInTreeAutoscaling", False) is (least < most)


@pytest.mark.parametrize(
    ("changes", "least", "most"),
    [
        ({}, 6, 6),
        ({"scaling": NOTHING}, 3, 3),
        ({"scaling.num_workers": [1, 2]}, 3, 6),
        ({"search_space.scaling\\.num_workers": {"choice": [1, 4, 2]}}, 12, 12),
        ({"search_space.scaling\\.num_workers": {"randint": [1, 6]}}, 15, 15),
        ({"tune.max_concurrent_trials": "auto", "kubernetes.pods": [0, 8]}, 0, 8),
    ],
)
def test_pods_of_a_sweep_are_those_of_trials_that_run_together(
    changes: dict[str, Any], least: int, most: int, tmp_path: Path
) -> None:
    config = changed(SWEEP, {key: value for key, value in changes.items() if "\\" not in key})
    for key, value in changes.items():
        if "\\" in key:
            config["search_space"][key.removeprefix("search_space.").replace("\\", "")] = value
    document = job(tmp_path, {}, config)
    assert (group(document)["minReplicas"], group(document)["maxReplicas"]) == (least, most)
    assert document["spec"]["entrypoint"] == "raytrainer tune /etc/raytrainer/config.yaml run.existing=resume"


# What a pod has


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"}),
        ({"kubernetes.gpu": "amd.com/gpu"}, {"cpu": "4", "memory": "8Gi", "amd.com/gpu": "1"}),
        (
            {"kubernetes.workers_per_pod": 4, "kubernetes.memory": "1.5Gi", "kubernetes.cpus": 1.5},
            {"cpu": "6", "memory": "6Gi", "nvidia.com/gpu": "4"},
        ),
        ({"kubernetes.workers_per_pod": 8}, {"cpu": "16", "memory": "32Gi", "nvidia.com/gpu": "4"}),
        (
            {"scaling.resources_per_worker": {"GPU": 0.5, "CPU": 3}, "kubernetes.workers_per_pod": 2},
            {"cpu": "6", "memory": "16Gi", "nvidia.com/gpu": "1"},
        ),
        ({"scaling": {"num_workers": 2}}, {"cpu": "1", "memory": "8Gi"}),
        ({"scaling": {"resources_per_worker": {"CPU": 6}}}, {"cpu": "6", "memory": "8Gi"}),
    ],
)
def test_a_pod_has_what_its_workers_ask_for(changes: dict[str, Any], expected: dict[str, str], tmp_path: Path) -> None:
    assert limits(job(tmp_path, changes)) == expected


@pytest.mark.parametrize(
    ("accelerator", "topology", "workers", "hosts", "replicas", "chips"),
    [
        ("TPU-V6E", "4x4", 8, 4, 2, "4"),
        ("TPU-V6E", "2x4", 2, 1, 2, "8"),
        ("TPU-V6E", "1x1", 1, 1, 1, "1"),
        ("TPU-V5P", "2x2x2", 2, 2, 1, "4"),
    ],
)
def test_a_slice_of_tpus_is_one_replica(
    accelerator: str, topology: str, workers: int, hosts: int, replicas: int, chips: str, tmp_path: Path
) -> None:
    scaling = {"use_tpu": True, "num_workers": workers, "accelerator_type": accelerator, "topology": topology}
    document = job(tmp_path, {"scaling": scaling})
    one = group(document)
    assert (one.get("numOfHosts", 1), one["replicas"], limits(document)["google.com/tpu"]) == (hosts, replicas, chips)
    selector = one["template"]["spec"]["nodeSelector"]
    assert selector["cloud.google.com/gke-tpu-topology"] == topology
    assert selector["cloud.google.com/gke-tpu-accelerator"].startswith(accelerator.lower())


def test_the_autoscaler_knows_what_a_node_would_bring(tmp_path: Path) -> None:
    changes = {"scaling.accelerator_type": "H100", "scaling.label_selector": {"zone": "a", "tier": "!spot"}}
    elastic = group(job(tmp_path, {**changes, "scaling.num_workers": [1, 2]}))
    assert (elastic["resources"], elastic["labels"]) == ({"accelerator_type:H100": "1"}, {"zone": "a"})
    assert "resources" not in group(job(tmp_path, changes))
    own = {"scaling.resources_per_worker": {"GPU": 1, "licence": 1}, "kubernetes.workers_per_pod": 2}
    assert group(job(tmp_path, own))["resources"] == {"licence": "2"}


def test_spot_workers_and_a_head_and_a_submitter_that_stay(tmp_path: Path) -> None:
    document = job(tmp_path, {"kubernetes.spot": "aks", "kubernetes.node_selector": {"gpu": "h100"}})
    label = "kubernetes.azure.com/scalesetpriority"
    worker = group(document)["template"]["spec"]
    assert worker["nodeSelector"] == {"gpu": "h100", label: "spot"}
    assert worker["tolerations"] == [{"key": label, "operator": "Equal", "value": "spot", "effect": "NoSchedule"}]
    for pod in (cluster_of(document)["headGroupSpec"]["template"], document["spec"]["submitterPodTemplate"]):
        stays = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        expected = [{"key": label, "operator": "NotIn", "values": ["spot"]}]
        assert stays["nodeSelectorTerms"] == [{"matchExpressions": expected}]
        assert "tolerations" not in pod["spec"] and "nodeSelector" not in pod["spec"]


def test_storage_secrets_and_code_reach_every_pod(tmp_path: Path) -> None:
    kubernetes = {
        "storage": {"pvc": "runs", "mount": "/mnt/runs", "secret": "s3"},
        "env_from": ["hub"],
        "env": {"HF_HOME": "/mnt/runs/hub", "HF_TOKEN": {"secret": "hub", "key": "token"}},
        "mlflow": {"secret": "mlflow", "key": "uri"},
        "working_dir": "/app",
        "shm": "2Gi",
    }
    changes = {f"kubernetes.{key}": value for key, value in kubernetes.items()}
    document = job(tmp_path, {**changes, "run.storage_path": "/mnt/runs/dates", "mlflow": NOTHING})
    for pod in (cluster_of(document)["headGroupSpec"]["template"], group(document)["template"]):
        one = container(pod)
        assert one["workingDir"] == "/app"
        assert one["envFrom"] == [{"secretRef": {"name": "s3"}}, {"secretRef": {"name": "hub"}}]
        assert pod["spec"]["terminationGracePeriodSeconds"] == 120
        assert one["env"] == [
            # A driver that is stopped, and a node that is drained, have time for a save.
            {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": "60"},
            {"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": "60"},
            {"name": "HF_HOME", "value": "/mnt/runs/hub"},
            {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
            {"name": "MLFLOW_TRACKING_URI", "valueFrom": {"secretKeyRef": {"name": "mlflow", "key": "uri"}}},
        ]
        assert {"name": "storage", "mountPath": "/mnt/runs"} in one["volumeMounts"]
        assert {"name": "storage", "persistentVolumeClaim": {"claimName": "runs"}} in pod["spec"]["volumes"]
        assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}} in pod["spec"]["volumes"]
    submitter = container(document["spec"]["submitterPodTemplate"])
    assert "env" not in submitter and "envFrom" not in submitter


def test_who_the_pods_are(tmp_path: Path) -> None:
    who = {"user": 2000, "groups": [44], "service_account": "runs", "image_pull_secrets": ["registry"]}
    changes = {f"kubernetes.{key}": value for key, value in who.items()}
    head = {"kubernetes.head": {"cpus": 4, "memory": "16Gi", "node_selector": {"pool": "cpu"}}}
    document = job(tmp_path, {**changes, **head, "scaling.num_workers": [1, 2]})
    template = cluster_of(document)["headGroupSpec"]["template"]
    submitter = document["spec"]["submitterPodTemplate"]["spec"]
    for spec in (template["spec"], group(document)["template"]["spec"], submitter):
        security = spec["securityContext"]
        assert (security["runAsUser"], security["fsGroup"], security["supplementalGroups"]) == (2000, 2000, [44])
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (spec["serviceAccountName"], spec["imagePullSecrets"]) == ("runs", [{"name": "registry"}])
        # The autoscaler alone talks to Kubernetes.
        assert spec.get("automountServiceAccountToken", True) is (spec is template["spec"])
    assert container(template)["resources"]["limits"] == {"cpu": "4", "memory": "16Gi"}
    assert template["spec"]["nodeSelector"] == submitter["nodeSelector"] == {"pool": "cpu"}
    assert {"name": "config", "mountPath": "/etc/raytrainer", "readOnly": True} in container(template)["volumeMounts"]
    assert {"name": "config", "configMap": {"name": "dates-config"}} in template["spec"]["volumes"]
    fixed = cluster_of(job(tmp_path, {}))["headGroupSpec"]["template"]["spec"]
    assert fixed["automountServiceAccountToken"] is False


def test_code_that_ray_fetches(tmp_path: Path) -> None:
    document = job(tmp_path, {"kubernetes.working_dir": "s3://bucket/code.zip"})
    assert yaml.safe_load(document["spec"]["runtimeEnvYAML"]) == {"working_dir": "s3://bucket/code.zip"}
    assert "workingDir" not in container(group(document)["template"])


# The job


def test_a_job_that_is_begun_again_goes_on_and_cleans_up(tmp_path: Path) -> None:
    limits = {"ttl": "90s", "active_deadline": "1h30m", "pre_running_deadline": "20m", "backoff_limit": 5}
    spec = job(tmp_path, {f"kubernetes.{key}": value for key, value in limits.items()})["spec"]
    assert spec["entrypoint"] == "raytrainer train /etc/raytrainer/config.yaml run.existing=resume"
    assert (spec["backoffLimit"], spec["submitterConfig"]["backoffLimit"]) == (5, 3)
    assert (spec["shutdownAfterJobFinishes"], spec["ttlSecondsAfterFinished"]) == (True, 90)
    assert (spec["activeDeadlineSeconds"], spec["preRunningDeadlineSeconds"]) == (5400, 1200)
    assert "suspend" not in spec


@pytest.mark.parametrize("kind", ["RayJob", "RayCluster"])
def test_kueue_lets_it_begin(kind: str, tmp_path: Path) -> None:
    document = job(tmp_path, {"kubernetes.queue": "team-a"}, kind=kind)
    assert document["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert document["spec"]["suspend"] is True


def test_a_head_whose_state_outlives_it(tmp_path: Path) -> None:
    redis = {"address": "redis:6379", "password": {"secret": "redis", "key": "password"}}
    assert cluster_of(job(tmp_path, {"kubernetes.redis": redis}))["gcsFaultToleranceOptions"] == {
        "redisAddress": "redis:6379",
        "redisPassword": {"valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}},
    }


def test_tokens(tmp_path: Path) -> None:
    assert cluster_of(job(tmp_path, {}))["authOptions"] == {"mode": "token"}
    own = {"kubernetes.auth_secret": "ray-token"}
    assert cluster_of(job(tmp_path, own))["authOptions"] == {"mode": "token", "secretName": "ray-token"}
    assert cluster_of(job(tmp_path, {"kubernetes.auth": "disabled"}))["authOptions"] == {"mode": "disabled"}


def test_names(tmp_path: Path) -> None:
    made = made_of(tmp_path, changed(RUN, {"name": "Dates_en.de", "kubernetes.namespace": "ml"}))
    names = {file: (document["metadata"]["name"], document["metadata"]["namespace"]) for file, document in made.items()}
    assert names == {
        "configmap.yaml": ("dates-en-de-config", "ml"),
        "networkpolicy.yaml": ("dates-en-de", "ml"),
        "rayjob.yaml": ("dates-en-de", "ml"),
    }
    assert job(tmp_path, {"name": "1st", "kubernetes.name": "first"})["metadata"]["name"] == "first"


def test_pods_of_other_runs_are_kept_out(tmp_path: Path) -> None:
    made = made_of(tmp_path, RUN)
    own = made["networkpolicy.yaml"]["spec"]["podSelector"]["matchLabels"]
    document = made["rayjob.yaml"]
    pods = [cluster_of(document)["headGroupSpec"]["template"], group(document)["template"]]
    for pod in [*pods, document["spec"]["submitterPodTemplate"]]:
        assert pod["metadata"]["labels"] == own == {"raytrainer/run": "dates"}
    inside, operator = made["networkpolicy.yaml"]["spec"]["ingress"]
    assert inside == {"from": [{"podSelector": {"matchLabels": own}}]}
    assert operator["ports"] == [{"protocol": "TCP", "port": 8265}]


# The config in the pod


@pytest.mark.parametrize("base", [RUN, SWEEP], ids=["run", "sweep"])
def test_the_config_in_the_pod_is_the_config(base: dict[str, Any], tmp_path: Path) -> None:
    settings = ["training.max_steps=7"]
    made = made_of(tmp_path, base, settings=settings)
    inside = tmp_path / "config.yaml"
    inside.write_text(made["configmap.yaml"]["data"]["config.yaml"])
    whole = changed(base, {"kubernetes": NOTHING, "training.max_steps": 7})
    assert yaml.safe_load(inside.read_text()) == whole
    load: Any = load_sweep if base is SWEEP else load_config
    load(str(inside), ["run.existing=resume"])


def test_other_limits_are_not_another_run(tmp_path: Path) -> None:
    one = made_of(tmp_path, SWEEP)["configmap.yaml"]
    assert made_of(tmp_path, changed(SWEEP, {"kubernetes.memory": "64Gi"}))["configmap.yaml"] == one


def test_a_secret_stays_the_name_of_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdefghij")
    changes = {"training.hub_token": "${HF_TOKEN}", "kubernetes.env_from": ["hub"]}
    made = made_of(tmp_path, changed(RUN, changes))
    assert 'hub_token: "${HF_TOKEN}"\n' in made["configmap.yaml"]["data"]["config.yaml"]
    assert "hf_0123" not in str(made)


# The command


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(RUN))
    return path


def test_it_is_printed(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manifest", "run.yaml", "scaling.num_workers=2"]) == 0
    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    assert [document["kind"] for document in documents] == ["ConfigMap", "NetworkPolicy", "RayJob"]
    assert group(documents[-1])["replicas"] == 2
    assert main(["manifest", "run.yaml", "--kind", "RayCluster", "--to", "cluster.yaml"]) == 0
    assert capsys.readouterr().out == ""
    kinds = [document["kind"] for document in yaml.safe_load_all(Path("cluster.yaml").read_text())]
    assert kinds == ["NetworkPolicy", "RayCluster"]


def test_a_kustomization_names_its_files(written: Path) -> None:
    assert main(["manifest", "run.yaml", "-o", "kustomize", "--to", "deploy/dates"]) == 0
    folder = written.parent / "deploy/dates"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert listed["kind"] == "Kustomization"
    assert {*listed["resources"], "kustomization.yaml"} == {path.name for path in folder.iterdir()}
    assert yaml.safe_load((folder / "rayjob.yaml").read_text()) == made_of(written.parent, RUN)["rayjob.yaml"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["-o", "kustomize"], "--to = nothing: a kustomization is a folder of files"),
        (["--to", "run.yaml/x"], "--to = 'run.yaml/x': it cannot be written"),
        (["kubernetes=null"], "kubernetes (on the command line) = nothing: nothing says which image the pods have"),
        (["kubernetes.imag=x"], 'kubernetes.imag (on the command line) = "x": kubernetes has no setting imag'),
    ],
)
def test_a_mistake_is_told(arguments: list[str], error: str, written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manifest", "run.yaml", *arguments]) == 2
    assert f"raytrainer manifest: {error}" in capsys.readouterr().err


def test_neither_ray_nor_torch_is_imported(written: Path) -> None:
    code = """
import sys
from raytrainer.cli import main
assert main(["manifest", "run.yaml", "--to", "out.yaml"]) == 0
assert not {"torch", "ray", "transformers"} & set(sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=written.parent, env=environment, check=True)


# The page


def test_the_page_is_right(tmp_path: Path) -> None:
    page = (ROOT / "docs/kubernetes.md").read_text()
    whole, part = (
        yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    )
    several: tuple[dict[str, Any], ...] = ({}, part["kubernetes"])
    for kubernetes in several:
        config = changed(whole, {f"kubernetes.{key}": value for key, value in kubernetes.items()})
        assert all_mistakes(list(made_of(tmp_path, config).values())[-1]) == []
    settings = page.split("## Settings")[1].split("##")[0]
    assert [name for name in Kubernetes.model_fields if f"`{name}`" not in settings] == []


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here")
def test_kubectl_takes_a_kustomization(written: Path) -> None:
    assert main(["manifest", "run.yaml", "-o", "kustomize", "--to", "dates"]) == 0
    done = subprocess.run(["kubectl", "kustomize", "dates"], capture_output=True, text=True, check=True)
    kinds = {document["kind"] for document in yaml.safe_load_all(done.stdout)}
    assert kinds == {"ConfigMap", "NetworkPolicy", "RayJob"}

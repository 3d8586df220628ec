"""Configs that are right and cannot be pods: each has one problem, which says what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raytrainer.errors import ConfigError
from tests.unit.manifest_configs import NOTHING, RUN, SWEEP, changed, made_of

TPU = {"use_tpu": True, "num_workers": 4, "accelerator_type": "TPU-V6E", "topology": "4x4"}
ROWS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"name": "1st"}, "name", "the job's name follows from it", "kubernetes.name: small letters"),
    ({"name": "a" * 48}, "name", "the job's name follows from it", "47 at most"),
    ({"scaling": {"use_gpu": True}}, "scaling.num_workers", "nothing says how many", "scaling.num_workers: 4"),
    ({"kubernetes.pods": [3, 2]}, "kubernetes.pods", "the least comes before the most", "[0, 4]"),
    ({"kubernetes.pods": 3}, "kubernetes.pods", "the run takes 4 workers, 1 a pod, and would wait", "4, or more"),
    (
        {"kubernetes.pods": [0, 1], "kubernetes.workers_per_pod": 3},
        "kubernetes.pods",
        "the run takes 4 workers, 3 a pod",
        "2, or more",
    ),
    ({"kubernetes.pods": [0, 0]}, "kubernetes.pods", "the most is at least 1", "[0, 4]"),
    ({"scaling": {**TPU, "topology": "large"}}, "scaling.topology", "which nodes have such TPUs", "topology: 4x4"),
    ({"scaling": {**TPU, "accelerator_type": "TPU-V9"}}, "scaling.topology", "which nodes", "TPU-V5P"),
    ({"scaling": {**TPU, "num_workers": 6}}, "scaling.num_workers", "4x4 is 4 hosts, a worker each", "a multiple of 4"),
    ({"scaling": TPU, "kubernetes.pods": [0, 5]}, "kubernetes.pods", "4x4 is 4 hosts", "a multiple of 4"),
    (
        {"scaling": TPU, "kubernetes.workers_per_pod": 4},
        "kubernetes.workers_per_pod",
        "a worker has a TPU host to itself",
        "1",
    ),
    (
        {"scaling.resources_per_worker": {"GPU": 0.5}, "kubernetes.workers_per_pod": 3},
        "scaling.resources_per_worker",
        "pods have whole GPUs, and 3 worker(s) with 0.5 come to 1.5",
        "kubernetes.workers_per_pod",
    ),
    (
        {"scaling.resources_per_worker": {"CPU": 8}, "kubernetes.cpus": 4},
        "kubernetes.cpus",
        "a worker asks for 8 (scaling.resources_per_worker)",
        "8",
    ),
    (
        {"kubernetes.tolerations": [{"key": "a"}, {"key": "b", "operator": "Equal"}]},
        "kubernetes.tolerations[1]",
        "operator Equal goes with a key and a value",
        "value: training",
    ),
    (
        {"kubernetes.tolerations": [{"key": "a", "value": "b"}]},
        "kubernetes.tolerations[0]",
        "Exists without a value",
        "operator: Equal",
    ),
    (
        {"kubernetes.spot": "gke", "run.max_failures": 0},
        "run.max_failures",
        "a spot node that is taken away is a failure",
        "run.max_failures: -1",
    ),
    (
        {"kubernetes.queue": "q", "scaling.num_workers": [2, 4]},
        "scaling.num_workers",
        "Kueue admits all pods at once",
        "4",
    ),
    ({"kubernetes.queue": "q", "kubernetes.pods": [2, 5]}, "kubernetes.pods", "Kueue admits all pods at once", "5"),
    ({"kubernetes.active_deadline": "0s"}, "kubernetes.active_deadline", "no job is that quick", "2h"),
    ({"run.storage_path": "runs"}, "run.storage_path", "it is a folder in the pod", "kubernetes.storage: {pvc:"),
    ({"run": NOTHING}, "run.storage_path", "it is a folder in the pod", "s3://bucket/runs"),
    (
        {"run.storage_path": "file:///runs"},
        "run.storage_path",
        "it is a folder in the pod",
        "s3://bucket/runs",
    ),
    (
        {"run.storage_path": "/mnt/runsome", "kubernetes.storage": {"pvc": "disk", "mount": "/mnt/run"}},
        "run.storage_path",
        "it is not on the volume disk",
        "/mnt/run/runs",
    ),
    ({"run.existing": "replace"}, "run.existing", "would delete what it has done", "resume, which is what pods do"),
    ({"mlflow": NOTHING}, "mlflow", "without a server the record is a file in the pod", "kubernetes.mlflow: {secret:"),
    ({"mlflow.tracking_uri": "sqlite:///m.db"}, "mlflow.tracking_uri", "a file in the pod", "a server's URI"),
    ({"mlflow.tracking_uri": "file:///runs"}, "mlflow.tracking_uri", "a file in the pod", "a server's URI"),
    ({"mlflow.tracking_uri": "mlruns"}, "mlflow.tracking_uri", "a file in the pod", "a server's URI"),
    (
        {"kubernetes.mlflow": {"secret": "mlflow", "key": "uri"}},
        "mlflow.tracking_uri",
        "kubernetes.mlflow says it, too",
        "one of the two",
    ),
]
SECRET = "hf_0123456789abcdefghijkl"
SECRETS: list[tuple[dict[str, Any], str, str]] = [
    ({"training.hub_token": "anything"}, "training.hub_token", "HUB_TOKEN"),
    ({"training.run_name": SECRET}, "training.run_name", "RUN_NAME"),
    ({"training.run_name": f"${{SOME_TOKEN:-{SECRET}}}"}, "training.run_name", "RUN_NAME"),
    ({"mlflow.tracking_uri": "https://me:pass@mlflow.example.com"}, "mlflow.tracking_uri", "TRACKING_URI"),
    ({"run.storage_path": "s3://b/runs?access_key=A&secret_key=B"}, "run.storage_path", "STORAGE_PATH"),
    ({"kubernetes.env": {"WANDB_API_KEY": "0123"}}, "kubernetes.env.WANDB_API_KEY", "WANDB_API_KEY"),
    ({"kubernetes.env": {"WANDB_API_KEY": "${MY_KEY}"}}, "kubernetes.env.WANDB_API_KEY", "WANDB_API_KEY"),
    ({"kubernetes.env": {"OTHER": SECRET}}, "kubernetes.env.OTHER", "OTHER"),
]


def problem_of(folder: Path, config: dict[str, Any]) -> Any:
    with pytest.raises(ConfigError) as raised:
        made_of(folder, config)
    (only,) = raised.value.problems
    return only


@pytest.mark.parametrize(("changes", "setting", "reason", "fix"), ROWS)
def test_a_run_that_cannot_be_pods(
    changes: dict[str, Any], setting: str, reason: str, fix: str, tmp_path: Path
) -> None:
    problem = problem_of(tmp_path, changed(RUN, changes))
    assert problem.setting.partition(" ")[0] == setting
    assert reason in problem.reason
    assert fix in problem.fix


@pytest.mark.parametrize(
    ("changes", "key", "setting", "reason"),
    [
        ({"tune.max_concurrent_trials": "auto"}, None, "tune.max_concurrent_trials", "auto follows from the number"),
        ({"tune.max_concurrent_trials": NOTHING}, None, "tune.max_concurrent_trials", "auto follows from the number"),
        (
            {},
            ("scaling.num_workers", {"expr": "2 if training.learning_rate > 0.001 else 1"}),
            "search_space.scaling.num_workers",
            "how many workers that comes to",
        ),
        (
            {},
            ("scaling.use_gpu", {"choice": [True, False]}),
            "search_space.scaling.use_gpu",
            "all worker pods are alike",
        ),
        ({"kubernetes.pods": 1}, None, "kubernetes.pods", "a trial takes 2 workers, 1 a pod"),
        ({"kubernetes.spot": "eks"}, None, "tune.max_failures", "a spot node that is taken away"),
        ({"run.existing": "replace"}, None, "run.existing", "would delete what it has done"),
    ],
)
def test_a_sweep_that_cannot_be_pods(
    changes: dict[str, Any], key: tuple[str, Any] | None, setting: str, reason: str, tmp_path: Path
) -> None:
    config = changed(SWEEP, changes)
    config["search_space"] |= dict([key]) if key else {}
    problem = problem_of(tmp_path, config)
    assert problem.setting.partition(" ")[0] == setting
    assert reason in problem.reason


@pytest.mark.parametrize(("changes", "setting", "variable"), SECRETS)
def test_a_secret_in_clear_text_is_refused_and_not_shown(
    changes: dict[str, Any], setting: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "x0123")
    problem = problem_of(tmp_path, changed(RUN, changes))
    assert problem.setting.partition(" ")[0] == setting
    assert "everybody" in problem.reason
    assert f"kubernetes.env: {{{variable}: {{secret: " in problem.fix
    for secret in (SECRET, "pass@", "0123", "anything", "secret_key=B"):
        assert secret not in str(problem)


@pytest.mark.parametrize(
    "changes",
    [
        {"data.source": "tokens", "data.target": "key"},
        {"training.hub_token": None},
        {"kubernetes.env": {"HF_TOKEN": {"secret": "password", "key": "secret"}}},
        {"kubernetes.auth_secret": "token", "kubernetes.image_pull_secrets": ["secret"]},
        {"mlflow.tracking_uri": "https://mlflow.example.com:5000/a@b"},
    ],
)
def test_what_only_looks_like_a_secret(changes: dict[str, Any], tmp_path: Path) -> None:
    made_of(tmp_path, changed(RUN, changes))


@pytest.mark.parametrize("uri", ["databricks", "databricks://profile", "sqlite:////mnt/raytrainer/mlflow.db"])
def test_a_record_that_outlives_the_pod(uri: str, tmp_path: Path) -> None:
    made_of(tmp_path, changed(RUN, {"mlflow.tracking_uri": uri, "kubernetes.storage": {"pvc": "runs"}}))


def test_a_variable_that_no_pod_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    config = changed(RUN, {"training.hub_token": "${HF_TOKEN}"})
    problem = problem_of(tmp_path, config)
    assert problem.setting.startswith("training.hub_token")
    assert "HF_TOKEN stays a variable in the pods" in problem.reason
    assert "kubernetes.env: {HF_TOKEN: {secret: NAME, key: HF_TOKEN}}" in problem.fix
    for there in (
        {"kubernetes.env": {"HF_TOKEN": {"secret": "hub", "key": "token"}}},
        {"kubernetes.env_from": ["hub"]},
        {"training.hub_token": "${HF_TOKEN:-}"},
    ):
        made_of(tmp_path, changed(config, there))


def test_a_cluster_that_stays_has_no_run(tmp_path: Path) -> None:
    """Whatever runs there later brings storage and record of its own."""
    made_of(tmp_path, changed(RUN, {"run": NOTHING, "mlflow": NOTHING}), "RayCluster")


def test_everything_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        made_of(tmp_path, changed(RUN, {"name": "1st", "run": NOTHING, "mlflow": NOTHING, "training.hub_token": "x"}))
    assert len(raised.value.problems) == 4

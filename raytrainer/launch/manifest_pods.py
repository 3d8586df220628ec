"""Pods as Kubernetes describes them: Ray's head, Ray's workers, and the one that submits the job."""

from __future__ import annotations

from typing import Any

from raytrainer.config.kubernetes import Kubernetes, SecretKey
from raytrainer.launch.jobs import STOP, STOP_S
from raytrainer.launch.manifest_size import Pods

RUN_LABEL = "raytrainer/run"
CONFIG_FOLDER = "/etc/raytrainer"
SUBMITTER = "ray-job-submitter"
_GRACE = {"terminationGracePeriodSeconds": 2 * STOP_S}
# What a job that is stopped has for a save; a node that is drained has as long, and the pod longer.
_GOING = {**STOP, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(STOP_S)}
_PORTS = {"gcs": 6379, "dashboard": 8265, "client": 10001}
# By who manages the nodes: the label that spot nodes have and others have not, and their taint.
_SPOT = {
    "gke": ("cloud.google.com/gke-spot", "true", False),
    "eks": ("eks.amazonaws.com/capacityType", "SPOT", False),
    "karpenter": ("karpenter.sh/capacity-type", "spot", False),
    "aks": ("kubernetes.azure.com/scalesetpriority", "spot", True),
}
SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def head_pod(asked: Kubernetes, name: str, config: bool, grows: bool) -> dict[str, Any]:
    """Return the template of the head's pod.

    Args:
        asked: the section ``kubernetes``.
        name: of job or cluster.
        config: whether the run's config is mounted.
        grows: whether the autoscaler, which asks Kubernetes for pods, runs beside it.
    """
    limits = {"cpu": f"{asked.head.cpus:g}", "memory": asked.head.memory}
    container = _ray_container(asked, "ray-head", limits)
    container["ports"] = [{"name": port, "containerPort": number} for port, number in _PORTS.items()]
    template = _template(asked, name, container, {**_node_that_stays(asked), **_GRACE}, token=grows)
    if config:
        container["volumeMounts"].append({"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True})
        template["spec"]["volumes"].append({"name": "config", "configMap": {"name": f"{name}-config"}})
    return template


def worker_pod(asked: Kubernetes, name: str, pods: Pods) -> dict[str, Any]:
    """Return the template of a worker's pod.

    Args:
        asked: the section ``kubernetes``.
        name: of job or cluster.
        pods: what each has.
    """
    selector, tolerations = {**pods.node_selector, **asked.node_selector}, [*map(_plain, asked.tolerations)]
    if asked.spot:
        label, value, tainted = _SPOT[asked.spot]
        selector[label] = value
        if tainted:
            tolerations.append({"key": label, "operator": "Equal", "value": value, "effect": "NoSchedule"})
    container = _ray_container(asked, "ray-worker", pods.limits)
    spec = {"nodeSelector": selector, "tolerations": tolerations, **_GRACE}
    return _template(asked, name, container, spec, token=False)


def submitter_pod(asked: Kubernetes, name: str) -> dict[str, Any]:
    """Return the template of the pod that hands the job to the head and follows it.

    Args:
        asked: the section ``kubernetes``.
        name: of the job.
    """
    container = {
        "name": SUBMITTER,
        "image": asked.image,
        "resources": _both({"cpu": "1", "memory": "1Gi"}),
        "securityContext": SECURITY,
    }
    spec = {"restartPolicy": "Never", **_node_that_stays(asked)}
    return _template(asked, name, container, spec, token=False, volumes=False)


def _node_that_stays(asked: Kubernetes) -> dict[str, Any]:
    spec: dict[str, Any] = {"nodeSelector": asked.head.node_selector}
    if asked.spot:
        label, value, _ = _SPOT[asked.spot]
        stays = {"matchExpressions": [{"key": label, "operator": "NotIn", "values": [value]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [stays]}}
        spec["affinity"] = {"nodeAffinity": required}
    return spec


def _template(
    asked: Kubernetes, name: str, container: dict[str, Any], spec: dict[str, Any], token: bool, volumes: bool = True
) -> dict[str, Any]:
    pod = {
        "serviceAccountName": asked.service_account,
        # The autoscaler's; a cloud's workload identity has a token of its own.
        "automountServiceAccountToken": None if token else False,
        "imagePullSecrets": [{"name": secret} for secret in asked.image_pull_secrets],
        **spec,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": asked.user,
            "fsGroup": asked.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            **({"supplementalGroups": asked.groups} if asked.groups else {}),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": _volumes(asked) if volumes else [],
    }
    return {"metadata": {"labels": {RUN_LABEL: name}}, "spec": full(pod)}


def _ray_container(asked: Kubernetes, name: str, limits: dict[str, str]) -> dict[str, Any]:
    secrets = [secret for secret in (asked.storage.secret, *asked.env_from) if secret]
    mounts = [{"name": "shm", "mountPath": "/dev/shm"}]
    if asked.storage.pvc:
        mounts.append({"name": "storage", "mountPath": asked.storage.mount})
    return full(
        {
            "name": name,
            "image": asked.image,
            "workingDir": asked.working_dir if "://" not in (asked.working_dir or "://") else None,
            "env": _variables(asked),
            "envFrom": [{"secretRef": {"name": secret}} for secret in dict.fromkeys(secrets)],
            "resources": _both(limits),
            "securityContext": SECURITY,
            "volumeMounts": mounts,
        }
    )


def _variables(asked: Kubernetes) -> list[dict[str, Any]]:
    given = {**_GOING, **asked.env, **({"MLFLOW_TRACKING_URI": asked.mlflow} if asked.mlflow else {})}
    return [
        {"name": name, "valueFrom": secret_key(value)}
        if isinstance(value, SecretKey)
        else {"name": name, "value": value}
        for name, value in given.items()
    ]


def _volumes(asked: Kubernetes) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": "shm", "emptyDir": full({"medium": "Memory", "sizeLimit": asked.shm})},
    ]
    if asked.storage.pvc:
        volumes.append({"name": "storage", "persistentVolumeClaim": {"claimName": asked.storage.pvc}})
    return volumes


def _plain(section: Any) -> dict[str, Any]:
    return full(section.model_dump())


def _both(limits: dict[str, str]) -> dict[str, Any]:
    """What a pod may use is what it asks for: nobody else's need takes it away."""
    return {"limits": limits, "requests": dict(limits)}


def secret_key(value: SecretKey) -> dict[str, Any]:
    """Return where Kubernetes finds a secret's value."""
    return {"secretKeyRef": {"name": value.secret, "key": value.key}}


def full(values: dict[str, Any]) -> dict[str, Any]:
    """Return a mapping without what says nothing."""
    return {name: value for name, value in values.items() if value is not None and value not in ([], {})}

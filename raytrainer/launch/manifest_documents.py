"""The documents of a manifest: job or cluster, its config, and who may talk to its pods."""

from __future__ import annotations

import importlib.metadata
import math
from typing import Any

from raytrainer.config.setting import seconds
from raytrainer.launch.manifest_pods import (
    CONFIG_FOLDER,
    RUN_LABEL,
    SECURITY,
    full,
    head_pod,
    secret_key,
    submitter_pod,
    worker_pod,
)
from raytrainer.launch.manifest_request import Request
from raytrainer.launch.manifest_rules import object_name
from raytrainer.launch.manifest_size import pods_of

Document = dict[str, Any]
_RAY = "ray.io/v1"
_KUEUE = "kueue.x-k8s.io/queue-name"
_DASHBOARD = 8265


def documents(asked: Request) -> dict[str, Document]:
    """Return the documents by the names of their files, in the order in which they are applied.

    Args:
        asked: what is wanted; its rules hold.
    """
    policy = {"networkpolicy.yaml": network_policy(asked)}
    if asked.kind == "RayCluster":
        return {**policy, "raycluster.yaml": ray_cluster(asked)}
    return {"configmap.yaml": config_map(asked), **policy, "rayjob.yaml": ray_job(asked)}


def ray_job(asked: Request) -> Document:
    """Return the RayJob: a cluster that is made for the run, and goes away after it."""
    kubernetes = asked.asked
    fetched = "://" in (kubernetes.working_dir or "")
    spec = {
        # The same every time: a job that is begun again goes on with its run.
        "entrypoint": f"raytrainer {asked.command} {CONFIG_FOLDER}/config.yaml run.existing=resume",
        "runtimeEnvYAML": f"working_dir: {kubernetes.working_dir}\n" if fetched else None,
        "submissionMode": "K8sJobMode",
        # Another one follows the job that the first has handed over.
        "submitterConfig": {"backoffLimit": 3},
        "backoffLimit": kubernetes.backoff_limit,
        "activeDeadlineSeconds": _seconds(kubernetes.active_deadline),
        "preRunningDeadlineSeconds": _seconds(kubernetes.pre_running_deadline),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _seconds(kubernetes.ttl),
        "suspend": True if kubernetes.queue else None,
        "rayClusterSpec": _cluster(asked),
        "submitterPodTemplate": submitter_pod(kubernetes, object_name(asked)),
    }
    return {"apiVersion": _RAY, "kind": "RayJob", "metadata": _metadata(asked, queued=True), "spec": full(spec)}


def ray_cluster(asked: Request) -> Document:
    """Return the RayCluster: it stays, for runs that are submitted to it."""
    spec = {"suspend": True if asked.asked.queue else None, **_cluster(asked)}
    return {"apiVersion": _RAY, "kind": "RayCluster", "metadata": _metadata(asked, queued=True), "spec": full(spec)}


def config_map(asked: Request) -> Document:
    """Return the ConfigMap with the run's config."""
    metadata = _metadata(asked, suffix="-config")
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"config.yaml": asked.config}}


def network_policy(asked: Request) -> Document:
    """Return the NetworkPolicy: pods of the run reach each other, KubeRay's operator the dashboard, nobody else."""
    own = {"matchLabels": {RUN_LABEL: object_name(asked)}}
    operator = {
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
    }
    spec = {
        "podSelector": own,
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": [{"podSelector": own}]},
            {"from": [operator], "ports": [{"protocol": "TCP", "port": _DASHBOARD}]},
        ],
    }
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    return {**kind, "metadata": _metadata(asked), "spec": spec}


def _cluster(asked: Request) -> Document:
    kubernetes, name, pods = asked.asked, object_name(asked), pods_of(asked)
    least, most = pods.groups
    head = {
        # Nothing but the driver runs there.
        "rayStartParams": {"num-cpus": "0"},
        "template": head_pod(kubernetes, name, config=asked.kind == "RayJob", grows=pods.grow),
    }
    workers = {
        "groupName": "workers",
        "replicas": least,
        "minReplicas": least,
        "maxReplicas": most,
        "numOfHosts": pods.hosts if pods.hosts > 1 else None,
        "resources": pods.custom,
        "labels": pods.labels,
        "template": worker_pod(kubernetes, name, pods),
    }
    spec = {
        "rayVersion": kubernetes.ray_version or importlib.metadata.version("ray"),
        "authOptions": full({"mode": kubernetes.auth, "secretName": kubernetes.auth_secret}),
        "gcsFaultToleranceOptions": _redis(asked),
        **(_autoscaler() if pods.grow else {}),
        "headGroupSpec": head,
        "workerGroupSpecs": [{"rayStartParams": {}, **full(workers)}],
    }
    return full(spec)


def _autoscaler() -> Document:
    limits = {"cpu": "500m", "memory": "1Gi"}
    options = {
        "version": "v2",
        "idleTimeoutSeconds": 60,
        "resources": {"limits": limits, "requests": dict(limits)},
        "securityContext": SECURITY,
    }
    return {"enableInTreeAutoscaling": True, "autoscalerOptions": options}


def _redis(asked: Request) -> Document | None:
    redis = asked.asked.redis
    if redis is None:
        return None
    password = {"valueFrom": secret_key(redis.password)} if redis.password else None
    return full({"redisAddress": redis.address, "redisPassword": password})


def _metadata(asked: Request, suffix: str = "", queued: bool = False) -> Document:
    name = object_name(asked)
    labels = {RUN_LABEL: name, **({_KUEUE: asked.asked.queue} if queued and asked.asked.queue else {})}
    return full({"name": f"{name}{suffix}", "namespace": asked.asked.namespace, "labels": labels})


def _seconds(duration: str | None) -> int | None:
    return None if duration is None else math.ceil(seconds(duration))

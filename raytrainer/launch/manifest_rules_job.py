"""What a job on Kubernetes needs so that nothing is lost: rules about storage, record, failures and deadlines."""

from __future__ import annotations

from collections.abc import Iterator

from raytrainer.config.kubernetes import PodStorage
from raytrainer.config.setting import seconds
from raytrainer.config.view import Finding
from raytrainer.launch.manifest_request import Request


def spot(asked: Request) -> Iterator[Finding]:
    """A spot node goes, and the run goes on."""
    path = ("run", "max_failures") if asked.command == "train" else ("tune", "max_failures")
    node = asked.root.at(path)
    if asked.asked.spot and (node is None or node.value == 0):
        reason = "a spot node that is taken away is a failure (kubernetes.spot)"
        yield path, reason, f"{'.'.join(path)}: -1, or how often at most"


def deadlines(asked: Request) -> Iterator[Finding]:
    """A job has some time."""
    for name in ("active_deadline", "pre_running_deadline"):
        given = getattr(asked.asked, name)
        if given is not None and seconds(given) == 0:
            yield ("kubernetes", name), "no job is that quick", "2h, for example, or nothing"


def storage(asked: Request) -> Iterator[Finding]:
    """A run outlives its pods."""
    path, disk = asked.run.storage_path, asked.asked.storage
    if "://" in path and not path.startswith("file:"):
        return
    where = ("run", "storage_path")
    if disk.pvc is None:
        fix = "s3://bucket/runs, gs://bucket/runs, or kubernetes.storage: {pvc: NAME} and a path below its mount"
        yield where, "it is a folder in the pod, which goes away with it", fix
    elif not f"{path.removeprefix('file://')}/".startswith(f"{disk.mount}/"):
        reason = f"it is not on the volume {disk.pvc}, and goes away with the pod"
        yield where, reason, f"{disk.mount}/runs"


def existing(asked: Request) -> Iterator[Finding]:
    """A job that is begun again goes on."""
    if asked.run.existing == "replace":
        reason = "a job that is begun again would delete what it has done"
        yield ("run", "existing"), reason, "resume, which is what pods do; or another name for another run"


def mlflow(asked: Request) -> Iterator[Finding]:
    """The record outlives the pods, and one setting says where it is."""
    record, kubernetes = asked.mlflow, asked.asked
    if record is None:
        return
    given = record.tracking_uri
    if given is not None and kubernetes.mlflow is not None:
        yield ("mlflow", "tracking_uri"), "kubernetes.mlflow says it, too", "one of the two"
    if given is not None and _in_the_pod(given, kubernetes.storage):
        reason = "it is a file in the pod, which goes away with it"
        yield ("mlflow", "tracking_uri"), reason, "a server's URI, kubernetes.mlflow, or mlflow: null"
    secrets = kubernetes.mlflow or kubernetes.env_from or "MLFLOW_TRACKING_URI" in kubernetes.env
    if given is None and not secrets:
        reason = "without a server the record is a file in the pod, which goes away with it"
        yield ("mlflow",), reason, "kubernetes.mlflow: {secret: NAME, key: KEY}, mlflow.tracking_uri, or mlflow: null"


def _in_the_pod(uri: str, disk: PodStorage) -> bool:
    """Tell whether an MLflow URI is of a file on the pod's own disk."""
    if disk.pvc is not None and f"{disk.mount}/" in uri:
        return False
    # Of those without a scheme, databricks and its like are servers.
    return uri.startswith(("sqlite:", "file:")) or (":" not in uri and not uri.startswith(("databricks", "uc")))

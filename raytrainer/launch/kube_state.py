"""What a RayJob and its pods say of themselves, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from raytrainer.launch.following import INTERRUPTED
from raytrainer.launch.manifest_pods import SUBMITTER

Document = dict[str, Any]
_QUEUE = "kueue.x-k8s.io/queue-name"
# Reasons of containers that wait as all do in the beginning.
_USUAL = {"ContainerCreating", "PodInitializing"}


def state(job: Document) -> str | None:
    """Say how far a RayJob is; None where nobody has looked at it yet."""
    status = job.get("status") or {}
    deployment, driver = status.get("jobDeploymentStatus") or "", status.get("jobStatus") or ""
    if job["metadata"].get("deletionTimestamp"):
        return "is being deleted"
    if deployment == "Suspended":
        queue = job["metadata"].get("labels", {}).get(_QUEUE)
        waits = f": the queue {queue} has not admitted it (kubectl get workloads)" if queue else ""
        return f"suspended{waits}"
    if deployment == "Complete":
        return driver.lower()
    if deployment == "Retrying":
        attempts = f"{status.get('failed', 0)} of {1 + (job['spec'].get('backoffLimit') or 0)} attempts failed"
        return f"begins again with new pods, {attempts}{_why(status)}"
    if deployment in ("Failed", "ValidationFailed"):
        return f"failed{_why(status)}"
    if deployment == "Running" and driver != "RUNNING":
        return "the cluster is up, the driver begins"
    return deployment.lower() or None


def _why(status: Document) -> str:
    said = [" ".join(status[name].split())[-400:] for name in ("reason", "message") if status.get(name)]
    return "".join(f": {part}" for part in said)


def exit_status(job: Document) -> int | None:
    """Return the exit status that a RayJob's end means; None where it has not ended."""
    status = job.get("status") or {}
    deployment = status.get("jobDeploymentStatus")
    if deployment == "Complete":
        return {"SUCCEEDED": 0, "STOPPED": INTERRUPTED}.get(status.get("jobStatus", ""), 1)
    return 1 if deployment in ("Failed", "ValidationFailed") else None


def waiting(pods: Sequence[Document]) -> str | None:
    """Say which pods cannot begin, and why; None where all can."""
    reasons = Counter(reason for pod in pods if (reason := _why_not(pod)))
    told = [f"{number} pod{'s' if number > 1 else ''} cannot begin: {why}" for why, number in sorted(reasons.items())]
    return "; ".join(told) or None


def _why_not(pod: Document) -> str | None:
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason") or "no node takes it")
    for container in _containers(status):
        wait = container.get("state", {}).get("waiting") or {}
        if wait.get("reason") and wait["reason"] not in _USUAL:
            return f"{wait['reason']}{': ' + wait['message'] if wait.get('message') else ''}"
    return None


def _containers(status: Document) -> Iterator[Document]:
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def submitter(pod: Document) -> Document | None:
    """Return the state of the container that hands the job to the head; None in other pods, and before it is there."""
    for container in _containers(pod.get("status") or {}):
        if container["name"] == SUBMITTER:
            found: Document = container.get("state", {})
            return found
    return None


def has_log(pod: Document) -> bool:
    """Tell whether a pod is a submitter's that has begun."""
    return bool((submitter(pod) or {}).keys() & {"running", "terminated"})

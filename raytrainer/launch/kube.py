"""``raytrainer submit --kube``: a config becomes a job of a Kubernetes cluster, and is followed."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from raytrainer.config.wording import setting
from raytrainer.errors import ArgumentsError, Problem, ResourcesError
from raytrainer.launch.kube_cluster import Cluster, Document, connected
from raytrainer.launch.kube_follow import follow
from raytrainer.launch.kube_references import missing
from raytrainer.launch.kube_refusals import RAY_JOB, Exists
from raytrainer.launch.kube_state import exit_status, state
from raytrainer.launch.manifest_documents import documents
from raytrainer.launch.manifest_request import Request, request
from raytrainer.launch.manifest_rules import check, object_name

# What belongs to a job that is over takes a while to go: its pods have two minutes.
_GONE_S = 180.0
_POLL_S = 1.0


def submit(path: str, settings: Sequence[str], context: str | None, namespace: str | None, wait: bool) -> int:
    """Make what ``raytrainer manifest`` writes in a cluster, and follow the run.

    Args:
        path: the config's file, of a run or of a sweep.
        settings: ``key.sub=value``, which count more than the file's.
        context: the kubeconfig's context; None for its current one.
        namespace: None for the config's, the context's, else default.
        wait: whether to follow it to its end.

    Returns:
        The run's exit status; 0 where it is not waited for.

    Raises:
        UserError: the config is wrong, or the cluster cannot run it; nothing has been made.
    """
    asked = request(path, settings, "RayJob")
    check(asked)
    made, name = documents(asked), object_name(asked)
    with connected(context, _namespace(asked, namespace)) as cluster:
        print(f"cluster: {cluster.client.configuration.host}, kubectl {cluster.options}", file=sys.stderr)
        old = _not_running(cluster, asked, name)
        if problems := missing(cluster, asked):
            raise ResourcesError(*problems)
        _rehearse(cluster, made, old)
        _make(cluster, made, name, old)
        print(f"submitted {name}", flush=True)
        if not wait:
            print(_later(cluster, name), file=sys.stderr)
            return 0
        try:
            return follow(cluster, name)
        except ResourcesError:
            print(f"{name} goes on without this program: {_later(cluster, name)}", file=sys.stderr)
            raise


def _namespace(asked: Request, namespace: str | None) -> str | None:
    said = asked.asked.namespace
    if said and namespace and said != namespace:
        place = setting(("kubernetes", "namespace"), asked.root)
        reason = f"{place} says {said}"
        raise ArgumentsError(Problem("--namespace", namespace, reason, "one of the two"))
    return namespace or said


def _not_running(cluster: Cluster, asked: Request, name: str) -> Document | None:
    """Return the job of that name that is over, or on its way out; None where there is none."""
    job = cluster.find(RAY_JOB, name)
    if job is None or job["metadata"].get("deletionTimestamp") or exit_status(job) is not None:
        return job
    key = "kubernetes.name" if asked.asked.name else "name"
    place = setting(tuple(key.split(".")), asked.root)
    reason = f"a RayJob of this name is at work in the namespace {cluster.namespace} ({state(job) or 'new'})"
    follow_it, delete = (
        f"kubectl {cluster.options} logs -f job/{name}",
        f"kubectl {cluster.options} delete rayjob {name}",
    )
    fix = f"{follow_it} to see it, {delete} to stop it, or {key}=OTHER for another run"
    raise ResourcesError(Problem(place, name, reason, fix))


def _rehearse(cluster: Cluster, made: dict[str, Document], old: Document | None) -> None:
    """Have the server say of everything whether it would take it, before anything is made."""
    for document in made.values():
        if document["kind"] != RAY_JOB.name:
            cluster.apply(document, dry=True)
            continue
        try:
            cluster.create(document, dry=True)
        except Exists:
            # Said of a name that is taken, after everything else has been found right.
            if old is None:
                raise


def _make(cluster: Cluster, made: dict[str, Document], name: str, old: Document | None) -> None:
    if old is not None:
        print(f"{name}: there is one that {state(old)}; it is deleted, the run goes on", file=sys.stderr)
        # Its submitter's Job has the new one's name: not before that is gone.
        cluster.delete(RAY_JOB, name, wait=True)
        _until_gone(cluster, name)
    for document in made.values():
        if document["kind"] == RAY_JOB.name:
            cluster.create(document)
        else:
            cluster.apply(document)
        print(f"applied {document['kind'].lower()}/{document['metadata']['name']}", file=sys.stderr)


def _until_gone(cluster: Cluster, name: str) -> None:
    until = time.monotonic() + _GONE_S
    while cluster.find(RAY_JOB, name) is not None:
        if time.monotonic() > until:
            reason = f"the RayJob that is to be deleted is still there after {_GONE_S:.0f} s"
            fix = f"kubectl {cluster.options} describe rayjob {name} says what it waits for (its finalizers)"
            raise ResourcesError(Problem(f"rayjobs.ray.io {name}", f"namespace {cluster.namespace}", reason, fix))
        time.sleep(_POLL_S)


def _later(cluster: Cluster, name: str) -> str:
    return f"kubectl {cluster.options} logs -f job/{name}; kubectl {cluster.options} delete rayjob {name}"

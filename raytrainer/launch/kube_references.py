"""What a run's pods need and its manifest only names: Secrets, a volume, an account, a queue."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

from raytrainer.config.kubernetes import Kubernetes, SecretKey
from raytrainer.config.tree import Path
from raytrainer.config.wording import setting
from raytrainer.errors import Problem, Seen
from raytrainer.launch.kube_cluster import Cluster
from raytrainer.launch.kube_refusals import Kind, Refused
from raytrainer.launch.manifest_request import Request

_SECRET = Kind("v1", "Secret", "secrets")
_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
_QUEUE = Kind("kueue.x-k8s.io/v1beta2", "LocalQueue", "localqueues")


class Reference(NamedTuple):
    """Something that has to be in the namespace.

    Args:
        path: the setting that names it.
        kind: what it is.
        name: what it is called.
        key: of a Secret, which key has to be in it.
    """

    path: Path
    kind: Kind
    name: str
    key: str | None = None


def references(asked: Kubernetes) -> Iterator[Reference]:
    """Yield what a section ``kubernetes`` names."""
    keys: dict[Path, SecretKey | str | None] = {("mlflow",): asked.mlflow}
    keys |= {("env", name): value for name, value in asked.env.items()}
    keys |= {("redis", "password"): asked.redis.password if asked.redis else None}
    for path, value in keys.items():
        if isinstance(value, SecretKey):
            yield Reference(path, _SECRET, value.secret, value.key)
    for path, kind, name, key in (
        (("storage", "secret"), _SECRET, asked.storage.secret, None),
        (("auth_secret",), _SECRET, asked.auth_secret, "auth_token"),
        (("storage", "pvc"), _CLAIM, asked.storage.pvc, None),
        (("service_account",), _ACCOUNT, asked.service_account, None),
        (("queue",), _QUEUE, asked.queue, None),
    ):
        if name is not None:
            yield Reference(path, kind, name, key)
    for several, names in (("env_from", asked.env_from), ("image_pull_secrets", asked.image_pull_secrets)):
        for number, name in enumerate(names):
            yield Reference((several, number), _SECRET, name)


def missing(cluster: Cluster, asked: Request) -> list[Problem]:
    """Return a problem for each thing that is named and not there; who may not look is told so, once.

    Args:
        cluster: where it has to be.
        asked: what names it.
    """
    problems, told = [], set()
    for reference in references(asked.asked):
        try:
            problem = _problem(cluster, reference)
        except Refused as error:
            if reference.kind not in told:
                told.add(reference.kind)
                print(f"{reference.kind.plural} are not looked for: {error.problems[0].reason}", file=sys.stderr)
            continue
        if problem is not None:
            reason, fix = problem
            place = setting(("kubernetes", *reference.path), asked.root)
            problems.append(Problem(place, Seen(reference.name), reason, fix))
    return problems


def _problem(cluster: Cluster, reference: Reference) -> tuple[str, str] | None:
    kind, name, key = reference.kind, reference.name, reference.key
    found = cluster.find(kind, name)
    if found is None:
        fix = f"one that kubectl {cluster.options} get {kind.plural} lists"
        if kind == _SECRET:
            fix += f", or kubectl {cluster.options} create secret generic {name} --from-literal={key or 'NAME'}=..."
        return f"the namespace {cluster.namespace} has no {kind.name} {name}", fix
    if key is not None and key not in (found.get("data") or {}):
        there = ", ".join(sorted(found.get("data") or {})) or "nothing"
        return f"the Secret {name} has no key {key}", f"one of its keys: {there}"
    return None

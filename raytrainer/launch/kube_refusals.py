"""What a Kubernetes API server's refusals mean, and what to do about them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from raytrainer.errors import NOTHING, Problem, ResourcesError
from raytrainer.launch.following import Unanswered

_KUBERAY = "docs.ray.io/en/latest/cluster/kubernetes/getting-started/kuberay-operator-installation.html"


class Kind(NamedTuple):
    """A kind of object.

    Args:
        version: its group and version.
        name: as documents have it.
        plural: as roles have it.
    """

    version: str
    name: str
    plural: str

    @property
    def resource(self) -> str:
        """The plural with its group, as ``kubectl auth can-i`` takes it."""
        group = self.version.rpartition("/")[0]
        return f"{self.plural}.{group}" if group else self.plural


RAY_JOB = Kind("ray.io/v1", "RayJob", "rayjobs")
POD = Kind("v1", "Pod", "pods")
EVENT = Kind("v1", "Event", "events")


class Refused(ResourcesError):
    """The server knows who asks, and does not allow it."""


class Absent(ResourcesError):
    """There is no such object."""


class Exists(ResourcesError):
    """There is an object of that name."""


@contextlib.contextmanager
def meant(verb: str, kind: Kind, name: str | None, cluster: Any, host: str | None = None) -> Iterator[None]:
    """Turn what the client raises into what it means for the user.

    Args:
        verb: what is asked for, as roles have it.
        kind: of which kind.
        name: of which object; None for a list.
        cluster: the namespace that is asked.
        host: the server's address, where there is no cluster yet.

    Raises:
        ResourcesError: the call failed.
    """
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    address = host or cluster.client.configuration.host
    try:
        yield
    except ApiException as error:
        raise _refusal(error, verb, kind, name, cluster, address) from error
    except (HTTPError, OSError) as error:
        cause = getattr(error, "reason", None) or error
        # urllib3 puts the connection before the reason.
        said = str(cause).partition(": ")[2] or str(cause) or type(error).__name__
        fix = "a cluster that kubectl version reaches: its address and certificate, VPN, proxy, --context"
        raise Unanswered(Problem("the Kubernetes API", address, said[:300], fix)) from error


def _refusal(error: Any, verb: str, kind: Kind, name: str | None, cluster: Any, address: str) -> ResourcesError:
    said, where = _message(error), f"{kind.resource}{f' {name}' if name else ''}"
    namespace = cluster.namespace if cluster else ""
    if error.status == 401:
        reason = "the server does not know who asks (401): credentials are missing, wrong or expired"
        return ResourcesError(
            Problem("the Kubernetes API", address, reason, "log in anew, so that kubectl get pods works")
        )
    if error.status == 403 and " cannot " in said:
        can = f"kubectl auth can-i {verb} {kind.resource} -n {namespace}"
        fix = f"a Role with the verb {verb} on {kind.resource} ({can}); cluster/kuberay/role.yaml has all that it takes"
        reason = f"you may not {verb} {kind.resource} in the namespace {namespace} (403): {said}"
        return Refused(Problem(where, f"namespace {namespace}", reason, fix))
    if error.status == 404 and said.startswith("namespaces "):
        reason, fix = "there is no such namespace", "--namespace, or kubectl create namespace"
        return ResourcesError(Problem("--namespace", namespace, reason, fix))
    kinds = {404: Absent, 409: Exists, 429: Unanswered}
    what = Unanswered if error.status >= 500 else kinds.get(error.status, ResourcesError)
    fix = "what the server's reason says"
    if kind == RAY_JOB and error.status in (400, 422):
        fix = "KubeRay 1.7 or newer in the cluster; its definition of RayJob is older, or other, than the manifest"
    return what(Problem(where, f"{verb}, namespace {namespace}", f"the server says ({error.status}): {said}", fix))


def _message(error: Any) -> str:
    """Return the reason in an error's body, a Status if it comes from the server itself."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body or ""
    with contextlib.suppress(ValueError, AttributeError):
        body = json.loads(body).get("message") or body
    return " ".join(body.split())[:600] or error.reason or "nothing"


def no_such_kind(kind: Kind, address: str) -> ResourcesError:
    """Return the error of a kind that a cluster does not have."""
    operator = "KubeRay's operator, 1.7 or newer: helm install kuberay-operator kuberay/kuberay-operator"
    fixes = {
        "RayJob": f"{operator} ({_KUBERAY})",
        "LocalQueue": "Kueue, 0.15 or newer, in the cluster, or no kubernetes.queue",
    }
    reason = f"the cluster at {address} does not know this kind: who looks after it is not installed"
    return ResourcesError(
        Problem(f"{kind.name} ({kind.version})", NOTHING, reason, fixes.get(kind.name, "a cluster that has it"))
    )


def no_client() -> ResourcesError:
    """Return the error of a machine without the client."""
    reason = "the package kubernetes, the API's client, is not installed here"
    return ResourcesError(Problem("--kube", NOTHING, reason, "pip install 'raytrainer[kubernetes]'"))

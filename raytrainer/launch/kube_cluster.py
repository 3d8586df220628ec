"""A Kubernetes cluster as kubectl would choose it: what is asked of its API, and what its refusals mean."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytrainer.errors import Problem, ResourcesError
from raytrainer.launch.kube_refusals import Absent, Kind, meant, no_client, no_such_kind

Document = dict[str, Any]
_NAMESPACE_OF_POD = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
_MANAGER = "raytrainer"
_PLURALS = {"ConfigMap": "configmaps", "NetworkPolicy": "networkpolicies", "RayJob": "rayjobs"}
# Seconds to connect, and until an answer begins.
_TIMEOUT_S = (5.0, 30.0)
# A log says nothing for long; a connection that was lost without a word is found by this.
_LOG_TIMEOUT_S = (5.0, 300.0)


@dataclass(frozen=True)
class Cluster:
    """A namespace of a cluster, through the official client.

    Args:
        client: kubernetes' dynamic client.
        context: the kubeconfig's; None inside a pod.
        namespace: where everything is asked for.
    """

    client: Any
    context: str | None
    namespace: str

    @property
    def options(self) -> str:
        """What kubectl is told to be here: ``-n NAMESPACE``, with the context."""
        return f"{f'--context {shlex.quote(self.context)} ' if self.context else ''}-n {self.namespace}"

    def find(self, kind: Kind, name: str) -> Document | None:
        """Return an object; None where there is none of that name."""
        try:
            return self._ask("get", kind, name, name=name)
        except Absent:
            return None

    def select(self, kind: Kind, **selectors: str) -> list[Document]:
        """Return objects by ``label_selector`` or ``field_selector``."""
        found: list[Document] = self._ask("list", kind, None, **selectors)["items"]
        return found

    def create(self, document: Document, dry: bool = False) -> None:
        """Make an object that is not there.

        Args:
            document: the object.
            dry: the server only checks whether it would, and knows every field.
        """
        self._ask("create", *_of(document), body=document, **_checked(dry))

    def apply(self, document: Document, dry: bool = False) -> None:
        """Make an object, or make what is there the same; arguments as of :meth:`create`."""
        kind, name = _of(document)
        self._ask("patch", kind, name, body=document, name=name, force_conflicts="true", **_checked(dry))

    def delete(self, kind: Kind, name: str, wait: bool = False) -> None:
        """Delete an object and what belongs to it.

        Args:
            kind: its kind.
            name: its name.
            wait: it is there until all that belongs to it is gone.
        """
        with contextlib.suppress(Absent):
            self._ask("delete", kind, name, name=name, propagation_policy="Foreground" if wait else "Background")

    def log(self, pod: str, container: str, since: str | None) -> Iterator[bytes]:
        """Yield the lines of a container as they are written, each after its time.

        Args:
            pod: its name.
            container: which of its containers.
            since: the time of a line; those before it are left out.
        """
        asked = [("container", container), ("follow", "true"), ("timestamps", "true")]
        asked += [("sinceTime", since)] if since else []
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        with meant("get", Kind("v1", "Pod", "pods/log"), pod, self):
            answer = self.client.request(
                "get", path, query_params=asked, serialize=False, _request_timeout=_LOG_TIMEOUT_S
            )
            try:
                yield from answer
            finally:
                answer.close()

    def _ask(self, verb: str, kind: Kind, named: str | None, **what: Any) -> Document:
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        method = "server_side_apply" if verb == "patch" else "get" if verb == "list" else verb
        with meant(verb, kind, named, self):
            try:
                resource = self.client.resources.get(api_version=kind.version, kind=kind.name)
            except ResourceNotFoundError:
                raise no_such_kind(kind, self.client.configuration.host) from None
            ask = getattr(resource, method)
            answer = ask(namespace=self.namespace, serialize=False, _request_timeout=_TIMEOUT_S, **what)
            found: Document = json.loads(answer.data)
            return found


def _of(document: Document) -> tuple[Kind, str]:
    version, name = document["apiVersion"], document["kind"]
    return Kind(version, name, _PLURALS[name]), document["metadata"]["name"]


def _checked(dry: bool) -> dict[str, Any]:
    # An older server, or an older definition of a kind, would drop what it does not know without a word.
    return {
        "field_manager": _MANAGER,
        "query_params": [("fieldValidation", "Strict")],
        **({"dry_run": "All"} if dry else {}),
    }


@contextlib.contextmanager
def connected(context: str | None, namespace: str | None) -> Iterator[Cluster]:
    """Connect to the cluster that kubectl would use: KUBECONFIG, ~/.kube/config, or the one that this pod is in.

    Args:
        context: one of the kubeconfig's; None for its current one.
        namespace: None for the context's, or the pod's, else default.

    Raises:
        ResourcesError: nothing says which cluster, it cannot be reached, or does not know who asks.
    """
    try:
        from kubernetes import client
        from kubernetes.dynamic import DynamicClient
    except ImportError:
        raise no_client() from None
    settings = client.Configuration()
    settings.retries = 1
    name, own = _configure(settings, context)
    # The client keeps what it has learnt of the cluster in a file, which others must not be able to write.
    with tempfile.TemporaryDirectory() as folder, client.ApiClient(settings) as api:
        with meant("get", Kind("v1", "Version", "version"), None, None, settings.host):
            dynamic = DynamicClient(api, cache_file=str(Path(folder) / "kinds.json"))
        yield Cluster(dynamic, name, namespace or own or "default")


def _configure(settings: Any, context: str | None) -> tuple[str | None, str | None]:
    """Fill in where the cluster is and who asks; return the context's name and namespace."""
    from kubernetes.config import ConfigException, load_incluster_config
    from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger
    from yaml import YAMLError

    files = os.environ.get("KUBECONFIG") or "~/.kube/config"
    there = [file for file in files.split(os.pathsep) if file and Path(file).expanduser().exists()]
    try:
        if not there and not context:
            load_incluster_config(settings)
            return None, Path(_NAMESPACE_OF_POD).read_text().strip()
    except (ConfigException, OSError):
        reason = "there is no kubeconfig, and this is not a pod of a cluster"
        fix = "KUBECONFIG, the path of the file that kubectl uses for the cluster"
        raise ResourcesError(Problem("KUBECONFIG", files, reason, fix)) from None
    try:
        loader = KubeConfigLoader(KubeConfigMerger(files).config, active_context=context, config_base_path=None)
        loader.load_and_set(settings)
    except (ConfigException, YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        # The client takes a file's form for granted.
        said = " ".join(str(error).split())[:300] or type(error).__name__
        at, value = ("--context", context) if context else ("KUBECONFIG", files)
        fix = "a context that kubectl config get-contexts lists, in a file that kubectl can use"
        raise ResourcesError(Problem(at, value, said, fix)) from error
    chosen = loader.current_context
    return chosen["name"], chosen.get("context", {}).get("namespace")

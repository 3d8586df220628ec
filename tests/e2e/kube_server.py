"""A server that speaks the Kubernetes API over HTTP, and who plays KubeRay's operator through that API.

kmock keeps the objects. What is added is what the real server does and kmock does not: credentials, trying out without
doing it, applying what is not there yet, selecting by labels, a pod's log; and who submits has the rights of
``cluster/kuberay/role.yaml``, no others.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp.web
import kmock
import yaml
from kubernetes import client

from tests.unit.kubernetes_schemas import all_mistakes

TOKEN, OPERATOR = "a-token-of-who-submits", "a-token-of-who-may-do-all"
ROLE = Path(__file__).parents[2] / "cluster" / "kuberay" / "role.yaml"
BREAKS, CLOSES = b"breaks", b"closes"
_OBJECT = re.compile(
    r"/apis?/(?:(?P<group>[^/]+\.[^/]+)/)?v\w+/namespaces/(?P<space>[^/]+)/(?P<plural>\w+)(?P<name>/.*)?"
)
_VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}
KINDS = {
    "v1/configmaps": "ConfigMap",
    "v1/secrets": "Secret",
    "v1/persistentvolumeclaims": "PersistentVolumeClaim",
    "v1/serviceaccounts": "ServiceAccount",
    "v1/pods": "Pod",
    "v1/events": "Event",
    "networking.k8s.io/v1/networkpolicies": "NetworkPolicy",
    "ray.io/v1/rayjobs": "RayJob",
    "kueue.x-k8s.io/v1beta2/localqueues": "LocalQueue",
}


class ApiServer(kmock.KubernetesEmulator):
    """The API server; ``refusals`` by verb and plural say what it answers instead: status and message."""

    def __init__(self, *without: str) -> None:
        super().__init__()
        self.refusals: dict[tuple[str, str], tuple[int, str]] = {}
        self.lines: dict[str, list[bytes | None]] = {}
        self.asked: list[tuple[str, str]] = []
        self.rules: list[dict[str, list[str]]] = yaml.safe_load(ROLE.read_text())["rules"]
        verbs = {"get", "list", "create", "patch", "delete"}
        for name, kind in KINDS.items():
            if kind not in without:
                self.resources[name] = kmock.ResourceInfo(kind=kind, namespaced=True, verbs=verbs)

    async def __call__(self, raw_request: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        token = raw_request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (TOKEN, OPERATOR):
            return status(401, "Unauthorized")
        found = _OBJECT.fullmatch(raw_request.path)
        if found is None:
            return await super().__call__(raw_request)
        name = (found["name"] or "").lstrip("/")
        verb = _VERBS.get(raw_request.method, "get" if name else "list")
        plural = f"{found['plural']}/log" if name.endswith("/log") else found["plural"]
        if token == TOKEN:
            self.asked.append((verb, plural))
            if refusal := self.refusals.get((verb, plural)):
                return status(*refusal)
            verbs = [verb, "create"] if verb == "patch" else [verb]
            if lacks := next((each for each in verbs if not self._allows(each, found["group"] or "", plural)), None):
                return status(403, f'{plural} is forbidden: User "me" cannot {lacks} resource "{plural}"')
        if name.endswith("/log"):
            return await self._log(raw_request, name.split("/")[0])
        if verb == "list":
            return self._select(found, raw_request.query.get("labelSelector", ""))
        if verb in ("create", "patch") and not name.endswith("/status"):
            body = await raw_request.json()
            if answer := self._written(raw_request, found, verb, body):
                return answer
        return await super().__call__(raw_request)

    def _written(
        self, request: aiohttp.web.BaseRequest, found: re.Match[str], verb: str, body: dict[str, Any]
    ) -> aiohttp.web.StreamResponse | None:
        applies = "apply-patch" in request.headers.get("Content-Type", "")
        named = body.get("metadata", {}).get("name", "")
        key = self._key(found, named)
        there = key in self.objects and not self.objects[key].deleted
        if (verb == "create" or applies) and body.get("kind") in ("RayJob", "ConfigMap", "NetworkPolicy"):
            assert request.query["fieldValidation"] == "Strict"
            if mistakes := all_mistakes(body) if body.get("kind") == "RayJob" else []:
                return status(422, f"{body['kind']} is invalid: {mistakes}")
        if verb == "create" and there:
            return status(409, f'{found["plural"]} "{named}" already exists')
        if request.query.get("dryRun") == "All":
            return aiohttp.web.json_response(body)
        if applies and not there:
            self.objects[key] = body
        return None

    def _allows(self, verb: str, group: str, plural: str) -> bool:
        asked = {"verbs": verb, "apiGroups": group, "resources": plural}
        return any(all(value in rule[name] for name, value in asked.items()) for rule in self.rules)

    def _key(self, found: re.Match[str], name: str) -> tuple[Any, str, str]:
        group = found["group"] or ""
        known = next(kind for kind in KINDS if kind.endswith(f"/{found['plural']}"))
        return kmock.resource(group, known.split("/")[-2], found["plural"]), found["space"], name

    def _select(self, found: re.Match[str], labels: str) -> aiohttp.web.StreamResponse:
        asked = dict(part.split("=") for part in labels.split(",") if part)
        kind, space, _ = self._key(found, "")
        objects = [
            each.raw for (of, at, _), each in self.objects.items() if (of, at) == (kind, space) and not each.deleted
        ]
        chosen = [each for each in objects if asked.items() <= each["metadata"].get("labels", {}).items()]
        return aiohttp.web.json_response({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": chosen})

    async def _log(self, request: aiohttp.web.BaseRequest, pod: str) -> aiohttp.web.StreamResponse:
        """Stream a pod's lines as they come; None ends its container. BREAKS and CLOSES end the connection, once."""
        response = aiohttp.web.StreamResponse()
        await response.prepare(request)
        since, number = request.query.get("sinceTime", "").encode(), 0
        lines = self.lines.setdefault(pod, [])
        while True:
            while number < len(lines):
                line, number = lines[number], number + 1
                if line is None:
                    await response.write_eof()
                    return response
                if line in (BREAKS, CLOSES):
                    lines[number - 1] = b""
                    if line == CLOSES:
                        await response.write_eof()
                    elif request.transport is not None:
                        request.transport.abort()
                    return response
                # To the second, as the kubelet may: who asks gets lines again.
                if line and line[:19] >= since[:19]:
                    await response.write(line)
            await asyncio.sleep(0.01)


def status(code: int, message: str) -> aiohttp.web.StreamResponse:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    return aiohttp.web.json_response(body, status=code)


@contextlib.contextmanager
def serving(*without: str) -> Iterator[tuple[ApiServer, str]]:
    """Serve in a thread; yield the server and its address.

    Args:
        without: kinds that the cluster does not know.
    """
    begun, over = threading.Event(), asyncio.Event()
    made: list[Any] = []

    async def serve() -> None:
        handler = ApiServer(*without)
        async with handler, kmock.Server(handler) as server:
            made.extend([handler, str(server.url).rstrip("/"), asyncio.get_running_loop()])
            begun.set()
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert begun.wait(120)
    handler, url, loop = made
    try:
        yield handler, url
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(120)
        assert not thread.is_alive()


def kubeconfig(file: Path, url: str, namespace: str = "team", token: str = TOKEN, context: str = "here") -> Path:
    """Write a kubeconfig with one context."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": {"server": url}}],
        "users": [{"name": context, "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context, "namespace": namespace}}],
        "current-context": context,
    }
    file.write_text(yaml.safe_dump(config))
    return file


class Operator:
    """What KubeRay and Kubernetes do to a RayJob, through the API.

    Args:
        configuration: of the client.
        namespace: where the job is.
        name: what it is called.
    """

    def __init__(self, configuration: client.Configuration, namespace: str = "team", name: str = "dates") -> None:
        api = client.ApiClient(configuration)
        self.core, self.custom = client.CoreV1Api(api), client.CustomObjectsApi(api)
        self.where = ("ray.io", "v1", namespace, "rayjobs")
        self.namespace, self.name = namespace, name

    @classmethod
    def at(cls, url: str, **where: str) -> Operator:
        configuration = client.Configuration(host=url)
        configuration.api_key["BearerToken"] = f"Bearer {OPERATOR}"
        return cls(configuration, **where)

    def job(self) -> dict[str, Any] | None:
        """Return the RayJob; None where there is none."""
        try:
            found: Any = self.custom.get_namespaced_custom_object(*self.where, self.name)
        except client.ApiException as error:
            assert error.status == 404
            return None
        return dict(found)

    def says(self, deployment: str, job: str = "", **more: Any) -> None:
        """Set the RayJob's status."""
        status = {"jobDeploymentStatus": deployment, "jobStatus": job, **more}
        self.custom.patch_namespaced_custom_object_status(*self.where, self.name, {"status": status})

    def pod(self, name: str, container: str = "ray-worker", node: str | None = None, **status: Any) -> None:
        """Make a pod of the run, or change its status."""
        metadata = {"name": name, "labels": {"raytrainer/run": self.name}}
        spec = {"containers": [{"name": container, "image": "image:1"}], "restartPolicy": "Never", "nodeName": node}
        names = [each.metadata.name for each in self.core.list_namespaced_pod(self.namespace).items]
        if name not in names:
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
            self.core.create_namespaced_pod(self.namespace, {**pod, "status": status})
        self.core.patch_namespaced_pod_status(name, self.namespace, {"status": status})

    def submitter(self, name: str, state: str = "running", node: str | None = None) -> None:
        """Make the submitter's pod, or change what its container does."""
        states = {"running": {"running": {}}, "terminated": {"running": None, "terminated": {"exitCode": 0}}}
        about = {"name": "ray-job-submitter", "image": "image:1", "imageID": "", "ready": False, "restartCount": 0}
        phase, containers = ("Running" if state == "running" else "Succeeded"), [{**about, "state": states[state]}]
        self.pod(name, "ray-job-submitter", node, phase=phase, containerStatuses=containers)

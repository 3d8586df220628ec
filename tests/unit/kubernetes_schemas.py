"""What Kubernetes and KubeRay would say of a document: the CRDs' schemas, Kubernetes' own, the operator's rules."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

_CRDS = os.environ.get("RAYTRAINER_CRDS", "")
_FILES = {"RayJob": "ray.io_rayjobs.yaml", "RayCluster": "ray.io_rayclusters.yaml"}
HAS_CRDS = Path(_CRDS, _FILES["RayJob"]).is_file()
needs_crds = pytest.mark.skipif(
    not HAS_CRDS,
    reason="RAYTRAINER_CRDS does not name a folder with KubeRay's custom resource definitions",
)


def _core_schemas() -> Path | None:
    found = importlib.util.find_spec("kubernetes_validate")
    if found is None or not found.submodule_search_locations:
        return None
    folders = Path(found.submodule_search_locations[0]).glob("kubernetes-json-schema/*-strict/_definitions.json")
    return max(folders, key=lambda path: [int(part) for part in re.findall(r"\d+", path.parent.name)], default=None)


_CORE = _core_schemas()
needs_core = pytest.mark.skipif(_CORE is None, reason="kubernetes-validate, which has Kubernetes' schemas, is missing")


def mistakes(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with one of KubeRay's documents, unknown fields included."""
    errors = _validator(document["kind"]).iter_errors(document)
    return [f"{error.json_path}: {error.message[:200]}" for error in errors]


@cache
def _validator(kind: str) -> Draft202012Validator:
    definition = yaml.load(Path(_CRDS, _FILES[kind]).read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    version = next(version for version in definition["spec"]["versions"] if version["name"] == "v1")
    return Draft202012Validator(_strict(version["schema"]["openAPIV3Schema"]))


def _strict(schema: Any) -> Any:
    """Refuse what the API server would drop without a word, and leave out what it fills in."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(part) for key, part in schema.items() if key != "default"}
    properties = schema.get("properties")
    if isinstance(properties, dict) and schema.get("type") == "object":
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
        given = [name for name in schema.get("required", []) if "default" not in properties.get(name, {})]
        made["required"] = given
    return made


def core_mistakes(document: dict[str, Any]) -> list[str]:
    """Return what Kubernetes' own schemas say of a document, or of the pods in one of KubeRay's."""
    if document["apiVersion"].startswith("ray.io/"):
        parts = [("PodTemplateSpec", pod) for pod in pods_of(document)]
    else:
        parts = [(document["kind"], document)]
    return [
        f"{kind} {error.json_path}: {error.message[:200]}"
        for kind, part in parts
        for error in _core_validator(kind).iter_errors(part)
    ]


@cache
def _core_validator(kind: str) -> Draft202012Validator:
    assert _CORE is not None
    definitions = json.loads(_CORE.read_text())["$defs"]
    name = next(name for name in definitions if re.fullmatch(rf"io\.k8s\.api\.[a-z]+\.v1\.{kind}", name))
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": definitions})


def pods_of(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the pod templates in one of KubeRay's documents: the head's, the workers', the submitter's."""
    cluster = cluster_of(document)
    yield cluster["headGroupSpec"]["template"]
    yield from (group["template"] for group in cluster["workerGroupSpecs"])
    if "submitterPodTemplate" in document["spec"]:
        yield document["spec"]["submitterPodTemplate"]


def all_mistakes(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with a document, by all the schemas that are here."""
    own = document["apiVersion"].startswith("ray.io/")
    found = operator_mistakes(document) if own else []
    if own and HAS_CRDS:
        found += mistakes(document)
    return found + (core_mistakes(document) if _CORE is not None else [])


def cluster_of(document: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document["spec"]
    cluster: dict[str, Any] = spec.get("rayClusterSpec", spec)
    return cluster


def operator_mistakes(document: dict[str, Any]) -> list[str]:
    """Return what KubeRay's operator refuses, or does not do, though the schema allows it; and what we promise."""
    spec, cluster = document["spec"], cluster_of(document)
    head, groups = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    grows = [group for group in groups if group["minReplicas"] < group["maxReplicas"]]
    limits = head["template"]["spec"]["containers"][0]["resources"]["limits"]
    checks = {
        "the name is a label of at most 47 characters": re.fullmatch(
            r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?", document["metadata"]["name"]
        ),
        "token authentication needs the version": cluster.get("rayVersion"),
        "the head runs no workers": head["rayStartParams"].get("num-cpus") == "0",
        "the head has no device": not limits.keys() - {"cpu", "memory"},
        "the autoscaler is on where numbers differ": bool(grows) == bool(cluster.get("enableInTreeAutoscaling")),
        "the autoscaler is version 2": not grows or cluster["autoscalerOptions"]["version"] == "v2",
        "replicas are between least and most": all(
            0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] > 0 for group in groups
        ),
        "resources are said once": not any(group["rayStartParams"] and group.get("resources") for group in groups),
        "requests are limits": all(
            container["resources"]["limits"] == container["resources"]["requests"]
            for container in _containers(document)
        ),
        "nothing is root": all(
            pod["spec"]["securityContext"]["runAsNonRoot"] and pod["spec"]["securityContext"]["runAsUser"] > 0
            for pod in pods_of(document)
        )
        and not any(container["securityContext"]["allowPrivilegeEscalation"] for container in _containers(document)),
        "Ray's pods have shared memory": all(
            {"name": "shm", "mountPath": "/dev/shm"} in pod["spec"]["containers"][0]["volumeMounts"]
            for pod in [head["template"], *(group["template"] for group in groups)]
        ),
        "volumes that are mounted are there": all(
            {mount["name"] for mount in pod["spec"]["containers"][0].get("volumeMounts", [])}
            <= {volume["name"] for volume in pod["spec"].get("volumes", [])}
            for pod in pods_of(document)
        ),
    }
    if document["kind"] == "RayJob":
        checks |= {
            "a submitter that goes ends nothing": spec["submitterConfig"]["backoffLimit"] > 0,
            "it cleans up": spec["shutdownAfterJobFinishes"] and "deletionStrategy" not in spec,
            "a retry goes on": "run.existing=resume" in spec["entrypoint"],
            "deadlines are in the future": all(
                spec.get(name, 1) > 0 for name in ("activeDeadlineSeconds", "preRunningDeadlineSeconds")
            ),
        }
    return [what for what, right in checks.items() if not right]


def _containers(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for pod in pods_of(document):
        yield from pod["spec"]["containers"]

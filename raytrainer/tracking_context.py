"""What is noted of a run when it is made: who runs which code with which libraries, and on which cluster."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from raytrainer.secrets import masked
from raytrainer.tracking_target import Target

_LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "ray", "mlflow")
_PATIENCE_S = 5.0


def context_tags(target: Target, folder: str) -> dict[str, str]:
    """Return a target's tags with what is known of this program and its cluster.

    Args:
        target: what was asked for; its tags count more.
        folder: the run's.

    Returns:
        MLflow's own (user, source, git commit) and ``raytrainer.*``.
    """
    from mlflow.tracking.context.registry import resolve_tags

    ours = {"raytrainer.folder": folder, **_code(), **_versions(), **_cluster()}
    tags: Mapping[str, str] = resolve_tags({**ours, **target.tags})
    return {name: masked(value, name) for name, value in tags.items()}


def _versions() -> dict[str, str]:
    found = {"raytrainer.version": "raytrainer"} | {f"raytrainer.{name}": name for name in _LIBRARIES}
    tags = {"raytrainer.python": platform.python_version()}
    for tag, package in found.items():
        try:
            tags[tag] = version(package)
        except PackageNotFoundError:
            continue
    return tags


def _code() -> dict[str, str]:
    """Return commit and state of the repository of the program, or else of the working directory."""
    main = str(getattr(sys.modules.get("__main__"), "__file__", None) or "")
    folder, name = os.path.split(os.path.abspath(main))
    # The raytrainer command lies where it is installed, which says nothing of the user's code.
    here = folder if main and _git(folder, "ls-files", "--error-unmatch", name) is not None else os.getcwd()
    commit = _git(here, "rev-parse", "HEAD")
    if not commit:
        return {}
    changes = _git(here, "status", "--porcelain")
    dirty = {} if changes is None else {"raytrainer.git_dirty": str(bool(changes)).lower()}
    return {"mlflow.source.git.commit": commit, **dirty}


def _git(folder: str, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cluster() -> dict[str, str]:
    """Return job, resources and kinds of hosts of the Ray that this program is connected to; nothing without one."""
    import ray

    if not ray.is_initialized():
        return {}
    tags = {"raytrainer.ray_job": ray.get_runtime_context().get_job_id()}
    # Where the job was submitted, Ray leaves its name here and nowhere else in the program.
    submitted = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    if submission := (submitted.get("metadata") or {}).get("job_submission_id"):
        tags["raytrainer.ray_submission"] = str(submission)
    tags["raytrainer.cluster"] = json.dumps(_plainly(ray.cluster_resources()), sort_keys=True)
    kinds = Counter(json.dumps(_plainly(node["Resources"]), sort_keys=True) for node in ray.nodes() if node["Alive"])
    tags["raytrainer.hosts"] = ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
    return tags


def _plainly(resources: Mapping[str, Any]) -> dict[str, float]:
    """Leave out what names a node, and the bytes of memory in favour of gigabytes."""
    shown = {}
    for name, amount in resources.items():
        if name.startswith("node:") or name == "object_store_memory":
            continue
        shown["memory_GB" if name == "memory" else name] = round(amount / (1e9 if name == "memory" else 1), 1)
    return shown

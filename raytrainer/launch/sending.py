"""How a script's folder reaches the machines that do not have it."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import ray
from ray._private.runtime_env import packaging
from ray._private.runtime_env.working_dir import upload_working_dir_if_needed
from ray.exceptions import RuntimeEnvSetupError

from raytrainer.autoscaler import autoscaler
from raytrainer.errors import Problem, ResourcesError


def folder_to_send(script: str | None) -> str | None:
    """Return the folder that other nodes need: the present one, or the script's where that is not below it.

    Args:
        script: absolute path; None for a module.

    Returns:
        None where the driver's node is the only one and stays so, or where a job has brought a folder for all nodes.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    brought = ray.get_runtime_context().runtime_env.get("working_dir")
    if brought or (len(nodes) < 2 and autoscaler() is None):
        return None
    here = os.getcwd()
    return here if script is None or Path(script).is_relative_to(here) else os.path.dirname(script)


def send(folder: str) -> str:
    """Bring a folder to the cluster, without what ``.gitignore`` and ``.rayignore`` in it name.

    Args:
        folder: absolute.

    Returns:
        The URI by which a runtime environment's ``working_dir`` names it.

    Raises:
        ResourcesError: it is larger than Ray takes.
    """
    keeps_ignored = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") == "1"
    # It has six lines for a folder of three files.
    logging.getLogger(packaging.__name__).setLevel(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            sent = upload_working_dir_if_needed({"working_dir": folder}, not keeps_ignored, scratch)
    except RuntimeEnvSetupError as error:
        limit = packaging.GCS_STORAGE_MAX_SIZE // 2**20
        raise ResourcesError(
            Problem(
                "the script's folder",
                folder,
                f"it has to be sent to the cluster's other nodes, and cannot be: {error}",
                f"a .rayignore in it that names what the script does not need ({limit} MiB at most, zipped), or"
                " ray job submit --working-dir",
            )
        ) from error
    return str(sent["working_dir"])

"""How the user's folder reaches the machines that do not have it."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, worker
from ray._private.runtime_env import packaging
from ray._private.runtime_env.working_dir import upload_working_dir_if_needed
from ray.exceptions import RayError, RuntimeEnvSetupError

from raytrainer.autoscaler import autoscaler
from raytrainer.config.schema import OwnTrainer, Script
from raytrainer.config.section import Common
from raytrainer.errors import Problem, ResourcesError


@dataclass(frozen=True)
class Sent:
    """A folder of the driver's that was brought to the cluster.

    Args:
        root: it, on the driver's machine.
        node: id of the driver's node.
        uri: by which Ray knows what was brought.
    """

    root: str
    node: str
    uri: str

    @property
    def runtime_env(self) -> dict[str, str]:
        """The runtime environment that gives a process the folder."""
        return {"working_dir": self.uri}


def send_code(config: Common) -> Sent | None:
    """Bring to the cluster what a config's own trainer or script is imported from; None for a built-in task.

    Raises:
        ResourcesError: it is larger than Ray takes.
    """
    if isinstance(config, Script):
        return send_folder(os.path.abspath(config.script))
    return send_folder(None) if isinstance(config, OwnTrainer) else None


def send_folder(script: str | None) -> Sent | None:
    """Bring the folder to the cluster that other nodes need: the present one, or the script's where it is elsewhere.

    Args:
        script: absolute path; None for a module.

    Returns:
        None where the driver's node is the only one and stays so, or where a job has brought a folder for all nodes.

    Raises:
        ResourcesError: it is larger than Ray takes.
    """
    root = _folder_to_send(script)
    return None if root is None else Sent(root, ray.get_runtime_context().get_node_id(), _send(root))


def _folder_to_send(script: str | None) -> str | None:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    brought = ray.get_runtime_context().runtime_env.get("working_dir")
    if brought or (len(nodes) < 2 and autoscaler() is None):
        return None
    here = os.getcwd()
    return here if script is None or Path(script).is_relative_to(here) else os.path.dirname(script)


def _send(folder: str) -> str:
    """Bring a folder to the cluster, without what ``.gitignore`` and ``.rayignore`` in it name; return its URI."""
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
                "the folder of your code",
                folder,
                f"it has to be sent to the cluster's other nodes, and cannot be: {error}",
                f"a .rayignore in it that names what your code does not need ({limit} MiB at most, zipped), or"
                " ray job submit --working-dir",
            )
        ) from error
    uri = str(sent["working_dir"])
    _keep(uri, _cluster())
    return uri


def _cluster() -> Any:
    """Return Ray's client of the cluster that this program is connected to; None for none."""
    return getattr(worker.global_worker, "gcs_client", None)


@functools.cache
def _keep(uri: str, cluster: Any) -> None:
    """Have the cluster keep a folder for as long as this program is connected to it.

    Ray deletes one after ten minutes that no job and no detached actor was started with, and nodes may join later.
    """
    variable = ray_constants.RAY_RUNTIME_ENV_URI_PIN_EXPIRATION_S_ENV_VAR
    seconds = int(os.environ.get(variable, ray_constants.RAY_RUNTIME_ENV_URI_PIN_EXPIRATION_S_DEFAULT))

    def pin() -> None:
        while _cluster() is cluster:
            # One that fails is followed by the next before Ray forgets the last.
            with contextlib.suppress(RayError):
                cluster.pin_runtime_env_uri(uri, seconds)
            time.sleep(seconds / 3)

    # With 0 Ray deletes nothing that it was not told of.
    if seconds > 0:
        threading.Thread(target=pin, name="raytrainer-folder", daemon=True).start()

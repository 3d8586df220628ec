"""A Ray of this machine's own, which nobody reaches over the network and no other user has the token of."""

from __future__ import annotations

import atexit
import contextlib
import ipaddress
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray._private import ray_constants
from ray._private.node import Node


def is_loopback(host: str) -> bool:
    """Tell whether an address is one that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def ray_on_loopback() -> Iterator[None]:
    """Have a Ray that is started, or connected to, inside the block be at 127.0.0.1, with all of its processes.

    It is what Ray does on macOS and Windows. On Linux it takes the machine's address in the network, even for one who
    says ``_node_ip_address="127.0.0.1"``, and listens on every interface. The variable that decides is read when ray is
    imported, which is over by now; whoever has set it gets what it says.
    """
    if ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR in os.environ:
        yield
        return
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def ray_without_api_server() -> Iterator[None]:
    """Have a Ray that is started inside the block, without a dashboard, do without the process that serves one, too.

    All it does then is to count how Ray is used, and Ray's start waits half a second for it.
    """
    node: Any = Node
    before = node.start_api_server
    node.start_api_server = lambda self, **settings: None
    try:
        yield
    finally:
        node.start_api_server = before


def keep_token_private() -> None:
    """Make Ray's token before Ray does, and let no other user read it: Ray's own file is as open as the umask.

    Nothing happens where the environment says which token it is, or that there is none. Where there is no home folder,
    or one that cannot be written, the token is in a folder of this program's own, for as long as it runs.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return
    try:
        # Not Path.home(), which knows /etc/passwd: the part of Ray that reads the token does not.
        path = Path(os.environ["HOME"]) / ".ray" / "auth_token"
        if not path.exists():
            _make(path, secrets.token_hex(32))
        path.chmod(0o600)
    except (KeyError, OSError):
        folder = tempfile.mkdtemp(prefix="raytrainer-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        path = Path(folder) / "auth_token"
        _make(path, secrets.token_hex(32))
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)


def _make(path: Path, text: str) -> None:
    """Write a file whole and private, unless another program was faster: then both go by that one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink()

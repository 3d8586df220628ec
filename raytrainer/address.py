"""The address of the Ray cluster: who says it, and what is wrong with one that cannot be joined."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from raytrainer.errors import Problem

ADDRESS_VARIABLE = "RAYTRAINER_ADDRESS"
"""Set by ``raytrainer resume --address``: it counts more than what the program's own command line says."""

_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s/:]+):(\d{1,5})")


def chosen(given: str | None) -> tuple[str, str] | None:
    """Return what says where the cluster is, and its address; None where Ray is to be started on this machine.

    Args:
        given: with the program's ``--address``.
    """
    said = {
        "raytrainer resume --address": os.environ.get(ADDRESS_VARIABLE),
        "--address": given,
        "RAY_ADDRESS": os.environ.get("RAY_ADDRESS"),
    }
    setting, address = next(((setting, address) for setting, address in said.items() if address), ("", "local"))
    return None if address == "local" else (setting, address)


def problems(setting: str, address: str) -> Iterator[Problem]:
    """Say why an address is none of a cluster that a driver joins."""
    scheme = address.rpartition("://")[0]
    joined = f"{_host(address)}:6379 (what ray start printed) on a machine of the cluster"
    if scheme == "ray":
        reason = (
            "a program behind Ray Client cannot send workers what is in the object store, nor see the cluster's state"
        )
        yield Problem(setting, address, reason, f"{joined}; {_from_anywhere(address)}")
    elif scheme in ("http", "https"):
        reason = "it is the address of a dashboard, which takes jobs"
        yield Problem(setting, address, reason, f"{joined}; from anywhere raytrainer submit --address {address} ...")
    elif scheme or (address != "auto" and not host_and_port(address)):
        yield Problem(
            setting, address, "it is no address of a Ray cluster", "HOST:PORT as ray start printed it, or auto"
        )


def not_of_it(setting: str, address: str) -> Problem:
    """Say that there is a cluster at an address, and that this machine is not one of its nodes."""
    reason = "a cluster answers there, and this machine is none of its nodes: no raylet of it runs here"
    return Problem(setting, address, reason, f"the same on a machine of the cluster; {_from_anywhere(address)}")


def _from_anywhere(address: str) -> str:
    return f"from anywhere raytrainer submit --address http://{_host(address)}:8265 ..."


def _host(address: str) -> str:
    return address.rpartition("://")[2].partition("/")[0].rpartition(":")[0] or "HOST"


def host_and_port(address: str) -> tuple[str, int] | None:
    """Return the parts of HOST:PORT; None where it is something else."""
    match = _HOST_AND_PORT.fullmatch(address)
    if match is None or not 0 < int(match[2]) < 65536:
        return None
    return match[1].strip("[]"), int(match[2])

"""run.json of a run's own record: which MLflow run it is, how much of it the server has, and who writes."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

import psutil


@dataclass(frozen=True)
class Head:
    """What run.json of the record says.

    Args:
        key: names the run in the store, as a tag, so that it is made once.
        began: when, in milliseconds since the Unix epoch.
        tracking_uri: the store, without credentials.
        experiment_name: as in the target.
        experiment_id: the same; the store's answer where it has given one.
        run_name: the run's name.
        run_id: the store's name for it, None before it has one.
        parent: the key of the run that it appears under.
        parent_run_id: the same as the store names it, where the user's program said it.
        ends: as in the target.
        tags: that it is made with.
        written: how many entries the store has, from the first on.
        host: of the driver that writes; empty where one has ended.
        pid: the same driver's process.
        started: when that process began, in seconds since the Unix epoch.
    """

    key: str
    began: int
    tracking_uri: str
    experiment_name: str | None = None
    experiment_id: str | None = None
    run_name: str | None = None
    run_id: str | None = None
    parent: str | None = None
    parent_run_id: str | None = None
    ends: bool = True
    tags: dict[str, str] = field(default_factory=dict)
    written: int = 0
    host: str = ""
    pid: int = 0
    started: float = 0.0

    def is_alive(self) -> bool | None:
        """Tell whether the driver that writes it is at work; None where it is another machine's."""
        if self.host != socket.gethostname():
            return None if self.host else False
        try:
            process = psutil.Process(self.pid)
            return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - self.started) < 1.0
        except psutil.NoSuchProcess:
            return False


def this_driver() -> dict[str, Any]:
    """Return who writes, where it is this process."""
    process = psutil.Process()
    return {"host": socket.gethostname(), "pid": process.pid, "started": process.create_time()}

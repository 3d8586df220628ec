"""A RayJob that has been made is followed to its end."""

from __future__ import annotations

import contextlib
import sys
import time

from raytrainer.launch.following import INTERRUPTED, absence, asked_again, stopping
from raytrainer.launch.kube_cluster import Cluster, Document
from raytrainer.launch.kube_log import Log
from raytrainer.launch.kube_refusals import EVENT, POD, RAY_JOB, Refused
from raytrainer.launch.kube_state import exit_status, has_log, state, waiting
from raytrainer.launch.manifest_pods import RUN_LABEL

# How long nobody may look at a new job, and a log that has ended may take to arrive.
_SILENCE_S = 30.0
_LAST_LINES_S = 30.0


class _Follower:
    """Says what changes, once.

    Args:
        cluster: where the job is.
        name: what it is called.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.stop = False
        self._stopped = False
        self._said: dict[str, str | None] = {}
        self._logs: dict[str, Log] = {}
        self._began = time.monotonic()

    def look(self) -> int | None:
        """Look once; return the exit status where the job has ended."""
        if self.stop and not self._stopped:
            self.cluster.delete(RAY_JOB, self.name)
            self._stopped = True
        job = self.cluster.find(RAY_JOB, self.name)
        if job is None:
            self._say("state", "is deleted")
            return INTERRUPTED
        self._show(job)
        return exit_status(job)

    def _show(self, job: Document) -> None:
        self._say("state", state(job))
        if not (job.get("status") or {}).get("jobDeploymentStatus"):
            self._explain_silence()
        try:
            pods = self.cluster.select(POD, label_selector=f"{RUN_LABEL}={self.name}")
        except Refused as error:
            self._say("pods", f"its pods and its log are not shown: {error}")
            return
        self._say("pods", waiting(pods))
        for pod in pods:
            name = pod["metadata"]["name"]
            if name not in self._logs and has_log(pod):
                if self._logs:
                    self._say("log", f"its output from the beginning, from the pod {name}")
                self._logs[name] = Log(self.cluster, name)

    def _explain_silence(self) -> None:
        if time.monotonic() - self._began < _SILENCE_S:
            return
        events: list[Document] = []
        with contextlib.suppress(Refused):
            fields = f"involvedObject.kind=RayJob,involvedObject.name={self.name},type=Warning"
            events = self.cluster.select(EVENT, field_selector=fields)
        why = events[-1]["message"] if events else "does KubeRay's operator run, and look at this namespace?"
        self._say("silence", f"nobody has taken it up: {why}")

    def _say(self, about: str, what: str | None) -> None:
        if what is not None and self._said.get(about) != what:
            print(f"{self.name}: {what}", file=sys.stderr, flush=True)
        self._said[about] = what

    def last_lines(self) -> None:
        """Wait for what has been written, and not come yet."""
        for log in self._logs.values():
            log.end(_LAST_LINES_S)


def follow(cluster: Cluster, name: str) -> int:
    """Show what a RayJob does, and what its driver writes, until it ends. Ctrl-C once asks, twice deletes it.

    Args:
        cluster: where it is.
        name: what it is called.

    Returns:
        The exit status: 0 where it succeeded, 1 where it failed, 130 where it was stopped or deleted.

    Raises:
        ResourcesError: the API does not let us look, or has been away for long.
    """
    follower = _Follower(cluster, name)
    # The handler only leaves word: it may have come in the middle of a request.
    with stopping(name, f"kubectl {cluster.options} logs -f job/{name}", lambda: setattr(follower, "stop", True)):
        ended = asked_again(follower.look, absence(name))
        follower.last_lines()
        return ended

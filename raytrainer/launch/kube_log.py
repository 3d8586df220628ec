"""The log of a pod as it is written, whatever becomes of the connection."""

from __future__ import annotations

import sys
import threading

from raytrainer.errors import ResourcesError
from raytrainer.launch.following import Unanswered
from raytrainer.launch.kube_cluster import Cluster
from raytrainer.launch.kube_refusals import POD, Absent
from raytrainer.launch.kube_state import submitter
from raytrainer.launch.manifest_pods import SUBMITTER

_AGAIN_S = 1.0


class Log(threading.Thread):
    """Writes what the submitter's pod writes to stdout, until it has ended.

    Args:
        cluster: where it is.
        pod: its name.
    """

    def __init__(self, cluster: Cluster, pod: str) -> None:
        super().__init__(name=f"log of {pod}", daemon=True)
        self._cluster, self._pod = cluster, pod
        self._last: str | None = None
        self._over = threading.Event()
        self.start()

    def end(self, seconds: float) -> None:
        """Wait for the last line."""
        self.join(seconds)
        self._over.set()

    def run(self) -> None:
        """Read, and read on where the connection ended before the container did."""
        while not self._over.is_set():
            try:
                pod = self._cluster.find(POD, self._pod)
                # Asked before: what is written until the end is in the reading after it.
                ended = pod is None or "terminated" in (submitter(pod) or {})
                self._read()
                if ended:
                    return
            except Absent:
                return
            except Unanswered:
                pass
            except ResourcesError as error:
                print(f"the log is not shown: {error}", file=sys.stderr)
                return
            self._over.wait(_AGAIN_S)

    def _read(self) -> None:
        for line in self._cluster.log(self._pod, SUBMITTER, self._last):
            stamp, _, text = line.decode(errors="replace").partition(" ")
            if self._last is not None and _order(stamp) <= _order(self._last):
                continue
            self._last = stamp
            sys.stdout.write(text)
            sys.stdout.flush()


def _order(stamp: str) -> tuple[str, str]:
    """Return what times in RFC 3339 are ordered by: a fraction has as many digits as it needs."""
    whole, _, fraction = stamp.partition(".")
    return whole.rstrip("Z"), fraction.rstrip("Z")

"""Who takes the CPU while a program comes to its first step: seconds by kind of process, of all that it starts."""

from __future__ import annotations

import os
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

_EVERY_S = 0.2
# What Ray starts beside the processes that run tasks and actors.
_OF_RAY = re.compile(
    r"gcs_server|raylet|/ray/(_private|dashboard|autoscaler|scripts)/|ray\.scripts|ray::(Dashboard|RuntimeEnv)Agent"
)
_ACTOR = re.compile(r"ray::(\w+)")


def kind(words: list[str], child: bool) -> str:
    """Return what kind of process it is.

    Args:
        words: its command line; an actor of Ray's has its class there, as ``ray::Relay.next``.
        child: whether the one who measures has started it.
    """
    line = " ".join(words)
    if _OF_RAY.search(line):
        return "Ray: head, raylet, agents, monitors"
    if actor := _ACTOR.match(line):
        return f"Ray actor {actor[1]}"
    return "the command itself" if child else "processes of the command's"


@contextmanager
def cpu_seconds(ended: Callable[[], bool]) -> Iterator[dict[str, float]]:
    """Sample all processes below this one until it has ended; then the dictionary has seconds by kind of process.

    What ran before the context counts for nothing; what a process does in its last fifth of a second is lost.

    Args:
        ended: whether to stop counting.
    """
    here, found = psutil.Process(), dict[str, float]()
    before = {pid: seconds for pid, (_, seconds) in _sample(here).items()}
    last: dict[int, tuple[str, float]] = {}
    over = threading.Event()

    def sample() -> None:
        while not over.wait(_EVERY_S):
            last.update(_sample(here))
            if ended():
                return

    thread = threading.Thread(target=sample, name="cpu")
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
    by_kind: dict[str, float] = defaultdict(float)
    for pid, (name, seconds) in last.items():
        by_kind[name] += seconds - before.get(pid, 0.0)
    found.update({name: round(seconds, 1) for name, seconds in by_kind.items() if seconds >= 0.05})


def _sample(here: psutil.Process) -> dict[int, tuple[str, float]]:
    sampled: dict[int, tuple[str, float]] = {}
    for process in here.children(recursive=True):
        try:
            times, parent = process.cpu_times(), process.ppid()
            sampled[process.pid] = kind(process.cmdline(), parent == os.getpid()), times.user + times.system
        except psutil.Error:  # it has ended meanwhile
            continue
    return sampled

"""What tests leave behind: processes below this one, and those that have its mark in their environment."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import psutil

MARK = "RAYTRAINER_TESTS"
# Python's own, which ends with the process that it belongs to.
_OF_PYTHON = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def left(mark: str, patience: float = 30.0) -> list[str]:
    """Return the command lines of what is left, when those have gone that are about to.

    Args:
        mark: the variable's value.
        patience: seconds that they may take.
    """
    until = time.monotonic() + patience
    while (found := sorted(_found(mark))) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def _found(mark: str) -> Iterator[str]:
    # By parentage too: Ray's workers write their titles over their environment.
    below = {process.pid for process in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            command = " ".join(process.cmdline())
            ours = process.pid in below or process.environ().get(MARK) == mark
            if ours and not any(word in command for word in _OF_PYTHON):
                yield f"{process.pid}: {command[:200]}"

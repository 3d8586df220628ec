"""Driver: the one group of workers that waits for an order, after it has carried out one or before there is any."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable

from raytrainer.errors import ArgumentsError, Problem
from raytrainer.group import Group, Plan

KEEP_VARIABLE = "RAYTRAINER_KEEP_WORKERS_S"
"""Seconds that workers stay after a call, in case another one follows; 0 to let them go at once."""

_KEEP_S = 30.0


class _Stay:
    """The one group of this program that waits for an order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._group: Group | None = None
        self._timer: threading.Timer | None = None
        self._coming: threading.Event | None = None

    def expect(self, start: Callable[[], Group | None], keep_s: float) -> None:
        """Have a group started on another thread."""
        self.arrived()
        coming = self._coming = threading.Event()

        def run() -> None:
            # What is wrong, the call says that needs the workers.
            with contextlib.suppress(BaseException):
                if (group := start()) is not None:
                    self.put(group, keep_s)
            coming.set()
            # Linux ends the processes of a Ray that was started here when this thread ends, not when the program does.
            threading.Event().wait()

        threading.Thread(target=run, name="raytrainer-warm-up", daemon=True).start()

    def arrived(self) -> None:
        """Return when the group that is being started is there."""
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.wait()

    def put(self, group: Group, keep_s: float) -> None:
        with self._lock:
            before, self._group = self._group, group
            self._timer = threading.Timer(keep_s, self._expire, [group])
            self._timer.daemon = True
            self._timer.start()
        if before is not None:
            before.end()

    def take(self) -> Group | None:
        self.arrived()
        with self._lock:
            group, self._group = self._group, None
            if self._timer is not None:
                self._timer.cancel()
        return group

    def _expire(self, group: Group) -> None:
        with self._lock:
            if self._group is not group:
                return
            self._group = None
        group.end()


_stay = _Stay()


def expect(start: Callable[[], Group | None], keep_s: float) -> None:
    """Have a group started on another thread, for an order to come.

    Args:
        start: starts it; None where it cannot be started ahead.
        keep_s: seconds that it waits.
    """
    _stay.expect(start, keep_s)


def arrived() -> None:
    """Return when the group that is being started is there, or could not be started."""
    _stay.arrived()


def open_group(plan: Plan) -> Group:
    """Return the workers that wait, where they are what a plan asks for, else others; those that wait are let go.

    Args:
        plan: what they shall be.

    Raises:
        ArgumentsError: what says how long they stay is no number of seconds.
    """
    if plan.lasting:
        _keep_s()
    group = _stay.take()
    if group is not None:
        if group.can_serve(plan):
            return group
        group.end()
    return Group(plan)


def keep(group: Group) -> None:
    """Have a group whose workers wait stay for a while, in case another order follows."""
    _stay.put(group, _keep_s())


def let_go() -> None:
    """Let those workers go that wait."""
    if (group := _stay.take()) is not None:
        group.end()


def keeps() -> bool:
    """Tell whether workers stay at all."""
    return _keep_s() > 0


def _keep_s() -> float:
    said = os.environ.get(KEEP_VARIABLE)
    if not said:
        return _KEEP_S
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        fix = f"{_KEEP_S:g}, which is the default, 0 to let workers go at once, or the variable unset"
        raise ArgumentsError(Problem(KEEP_VARIABLE, said, "it is no number of seconds", fix))
    return seconds

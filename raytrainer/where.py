"""Where this process stands: a driver that sends work out, or a member of a process group that does it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

GROUP_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
"""Set by Ray Train's torch backend on its workers and by torchrun, and by nobody on a driver."""

_here: ContextVar[bool] = ContextVar("raytrainer_here", default=False)


def on_driver() -> bool:
    """Tell whether a trainer built now should send its work to a cluster.

    Returns:
        False on a Ray Train worker, under torchrun, and inside :func:`here`; True elsewhere.
    """
    return not _here.get() and not all(name in os.environ for name in GROUP_VARIABLES)


@contextlib.contextmanager
def here() -> Iterator[None]:
    """Build trainers and arguments inside the block as plain transformers ones, in this process."""
    token = _here.set(True)
    try:
        yield
    finally:
        _here.reset(token)

"""How tests wait: for what is to come true, with a limit, and never for a time that was guessed."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 120.0


def until(condition: Callable[[], object], what: str = "the condition", seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still waiting for {what} after {seconds:.0f} s"
        time.sleep(0.02)

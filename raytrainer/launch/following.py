"""What all who follow a job to its end have in common: questions that are asked again, and Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from raytrainer.errors import ResourcesError

Found = TypeVar("Found")

INTERRUPTED = 130
_POLL_S = 1.0
_AWAY_S = 600.0


class Unanswered(ResourcesError):
    """The server cannot be reached, or cannot answer now; later it may."""


def asked_again(
    look: Callable[[], Found | None], away: Callable[[Unanswered], None], give_up: float | None = None
) -> Found:
    """Look again and again until there is something to be found.

    Args:
        look: looks once; None for nothing yet.
        away: is told each time that nobody answers.
        give_up: seconds without an answer after which that is raised; None for ten minutes.

    Returns:
        What was found.

    Raises:
        Unanswered: nobody has answered for so long.
    """
    answered = time.monotonic()
    while True:
        try:
            found = look()
            answered = time.monotonic()
        except Unanswered as error:
            if time.monotonic() - answered > (_AWAY_S if give_up is None else give_up):
                raise
            away(error)
            found = None
        if found is not None:
            return found
        time.sleep(_POLL_S)


def absence(job: str) -> Callable[[Unanswered], None]:
    """Return what says that nothing is known of a job for now, once for each reason."""
    said = None

    def away(error: Unanswered) -> None:
        nonlocal said
        reason = error.problems[0].reason
        if reason != said:
            print(f"{job}: it goes on; what it does is not known for now: {reason}", file=sys.stderr, flush=True)
        said = reason

    return away


@contextlib.contextmanager
def stopping(job: str, logs: str, stop: Callable[[], Any]) -> Iterator[None]:
    """Inside, Ctrl-C once asks, twice stops a job, and three times ends this program.

    Args:
        job: what it is called.
        logs: the command that shows what it writes.
        stop: stops it.
    """
    asked = 0

    def interrupt(number: int, frame: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            print(f"\nonce more stops {job}; it goes on without this program, too: {logs}", file=sys.stderr)
        elif asked == 2:
            print(f"stopping {job}", file=sys.stderr)
            stop()
        else:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

"""Ways to put a run's progress before a user who has no terminal: plain lines, or warnings alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TextIO


class Screen(Protocol):
    """Where lines go, on the driver."""

    def show(self, line: str) -> None:
        """Show the present state, which the next state replaces.

        Args:
            line: the state.
        """

    def say(self, line: str, warning: bool = False) -> None:
        """Print a line that stays.

        Args:
            line: the line.
            warning: whether the user may want to change something.
        """

    def stop(self) -> None:
        """Leave the stream as it was found."""


class QuietScreen:
    """Prints warnings and nothing else.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, line: str) -> None:
        """Show nothing."""

    def say(self, line: str, warning: bool = False) -> None:
        """Print a warning, keep silent otherwise."""
        if warning:
            print(f"warning: {line}", file=self._stream, flush=True)

    def stop(self) -> None:
        """Nothing to undo."""


class PlainScreen:
    """Prints lines, for log files and pipes; a state at most once in ``interval`` seconds.

    Args:
        stream: where to.
        clock: seconds, never going back.
        interval: seconds between two states.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float], interval: float) -> None:
        self._stream, self._clock, self._interval = stream, clock, interval
        self._shown: float | None = None

    def show(self, line: str) -> None:
        """Print the state unless one was printed a short while ago."""
        now = self._clock()
        if self._shown is None or now - self._shown >= self._interval:
            self._shown = now
            self.say(line)

    def say(self, line: str, warning: bool = False) -> None:
        """Print the line."""
        print(f"warning: {line}" if warning else line, file=self._stream, flush=True)

    def stop(self) -> None:
        """Nothing to undo."""

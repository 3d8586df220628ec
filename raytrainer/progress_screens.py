"""The three ways to put a run's progress before a user: a live line, plain lines, or warnings alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType


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


class LiveScreen:
    """Keeps one line at the bottom of a terminal and draws it anew several times a second.

    Args:
        stream: the terminal.
        line: gives the state to draw.
        share: gives the part that is done, 0 to 1, None where there is no telling.
        clock: seconds, never going back.
    """

    def __init__(
        self, stream: TextIO, line: Callable[[], str], share: Callable[[], float | None], clock: Callable[[], float]
    ) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        self._line, self._share, self._clock = line, share, clock
        self._spinner = Spinner("dots")
        self._console = Console(file=stream, force_terminal=True, highlight=False, markup=False)
        # Ray's log thread, its loggers and the user's program look up sys.stdout and sys.stderr when they print; rich
        # puts a proxy there that prints above the line. A stream that goes to a file or a pipe must stay as it is.
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
            transient=True,
        )
        self._live.start()

    def show(self, line: str) -> None:
        """Leave it to the next drawing, which asks for the state itself."""

    def say(self, line: str, warning: bool = False) -> None:
        """Print the line above the live one."""
        text = f"warning: {line}" if warning else line
        self._console.print(text, style="yellow" if warning else None, soft_wrap=True)

    def stop(self) -> None:
        """Take the live line away and give the process its stdout and stderr back."""
        self._live.stop()

    def _render(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        share, wide = self._share(), self._console.width >= 110
        bar = ProgressBar(
            total=1.0, completed=share or 0.0, width=20, pulse=share is None, animation_time=self._clock()
        )
        grid = Table.grid(padding=(0, 1))
        grid.add_row(self._spinner, Text(self._line(), no_wrap=True, overflow="ellipsis"), *([bar] if wide else []))
        return grid

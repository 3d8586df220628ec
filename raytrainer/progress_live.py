"""A run's progress on a terminal: one line at the bottom, drawn anew all the time; everything else goes above it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType


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
        # Ray's log thread and the user's program look up sys.stdout and sys.stderr when they print; rich puts a proxy
        # there that prints above the line. A stream that goes to a file or a pipe must stay as it is.
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
            transient=True,
        )
        self._streams = sys.stdout, sys.stderr
        self._live.start()
        _move_log_handlers(self._streams, (sys.stdout, sys.stderr))

    def show(self, line: str) -> None:
        """Draw at once; what is drawn is asked for anew each time, so that the time left counts down."""
        self._live.refresh()

    def say(self, line: str, warning: bool = False) -> None:
        """Print the line above the live one."""
        text = f"warning: {line}" if warning else line
        self._console.print(text, style="yellow" if warning else None, soft_wrap=True)
        self._live.refresh()

    def stop(self) -> None:
        """Take the live line away and give the process its stdout and stderr back."""
        proxies = sys.stdout, sys.stderr
        self._live.stop()
        _move_log_handlers(proxies, self._streams)

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


def _move_log_handlers(old: tuple[TextIO, TextIO], new: tuple[TextIO, TextIO]) -> None:
    # A handler keeps the stream that was there when it was made: Ray's loggers would write into the live line.
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for handler in {handler for logger in loggers for handler in getattr(logger, "handlers", [])}:
        for before, after in zip(old, new, strict=True):
            if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                handler.setStream(after)

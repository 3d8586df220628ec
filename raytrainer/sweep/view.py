"""What a user sees of a sweep while it runs: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import heapq
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from raytrainer.progress_live import LiveScreen
from raytrainer.progress_screens import PlainScreen, Screen
from raytrainer.progress_view import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

_ROWS = 20
_FEW = 4


@dataclass
class Row:
    """A trial, as the table shows it.

    Args:
        number: the trial's.
        sampled: what was drawn for it, as Ray Tune has it.
        values: what it trains with.
        state: ``waiting``, ``running``, ``paused``, ``finished``, ``stopped`` or ``failed``; View.move changes it.
        step: optimizer steps done.
        max_steps: in all.
        score: its newest evaluation's metric, None before.
        seconds: that it has trained.
    """

    number: int
    sampled: Mapping[str, Any]
    values: Mapping[str, Any]
    state: str = "waiting"
    step: int = 0
    max_steps: int = 0
    score: float | None = None
    seconds: float = 0.0


@dataclass
class View:
    """Driver: a sweep's progress.

    Args:
        metric: the objective.
        total: trials in all, None where only a budget ends the sweep.
        best: returns the number of the trial that is ahead, None before there is one.
        limit: seconds that the sweep may take, None without limit.
        stream: where to, stderr by default.
        clock: seconds, never going back.

    Attributes:
        rows: by the trial's number.
    """

    metric: str
    total: int | None
    best: Callable[[], int | None]
    limit: float | None = None
    stream: TextIO | None = None
    clock: Callable[[], float] = time.monotonic
    rows: dict[int, Row] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._began = self.clock()
        # Counted as they come: thousands of rows are not gone through at every evaluation.
        self._states: Counter[str] = Counter()
        stream = self.stream or sys.stderr
        self._screen: Screen = (
            _Table(stream, self._line, self._table, self.clock)
            if stream.isatty()
            else PlainScreen(stream, self.clock, interval=5.0)
        )
        self._notes: set[str] = set()

    @property
    def over(self) -> int:
        """How many trials have ended."""
        return sum(self._states[state] for state in ("finished", "stopped", "failed"))

    def row(self, number: int) -> Row:
        """Return a trial's row, a new one where there is none."""
        if number not in self.rows:
            self.add(Row(number, {}, {}))
        return self.rows[number]

    def add(self, row: Row) -> None:
        """Take in a trial's row."""
        self.rows[row.number] = row
        self._states[row.state] += 1

    def move(self, row: Row, state: str) -> None:
        """Put a trial's row into another state."""
        self._states[row.state] -= 1
        self._states[state] += 1
        row.state = state

    def evaluated(self, row: Row) -> None:
        """Show a trial's new evaluation."""
        best = " (best so far)" if self.best() == row.number else ""
        of = f" of {row.max_steps}" if row.max_steps else ""
        line = f"trial {row.number}: step {row.step}{of}, {self.metric} {_number(row.score)}{best}"
        self._screen.show(f"{line} | {self._line()}")

    def ended(self, row: Row, why: str | None) -> None:
        """Show that a trial has ended."""
        reason = f" ({why})" if why else ""
        values = ", ".join(f"{_short(name)}={_number(value)}" for name, value in row.values.items())
        score = "" if row.score is None else f"{self.metric} {_number(row.score)}; "
        text = f"trial {row.number} {row.state}{reason} at step {row.step}: {score}{values}"
        self._screen.say(text, warning=row.state == "failed")

    def say(self, text: str, warning: bool = False) -> None:
        """Show a line that stays, once."""
        if text not in self._notes:
            self._notes.add(text)
            self._screen.say(text, warning)

    def close(self) -> None:
        """Leave the stream as it was found."""
        self._screen.stop()

    def _line(self) -> str:
        parts = [f"{self.over} of {self.total} trials" if self.total else f"{self.over} trials"]
        parts.append(f"{self._states['running']} running")
        if (best := self.best()) is not None and best in self.rows:
            parts.append(f"best {self.metric} {_number(self.rows[best].score)} (trial {best})")
        elapsed = self.clock() - self._began
        limit = f" of {duration(self.limit)}" if self.limit else ""
        return ", ".join([*parts, f"{duration(elapsed)}{limit}"])

    def _table(self) -> RenderableType:
        from rich.table import Table

        # Those that run, then those that ended last. Drawn on a thread of its own, so from a copy.
        rows = heapq.nsmallest(_ROWS, list(self.rows.values()), key=_order)
        keys = list(dict.fromkeys(name for row in rows for name in row.values))[:_FEW]
        table = Table(box=None, pad_edge=False)
        for title in ("trial", "state", "step", self.metric, "time"):
            table.add_column(title, justify="right" if title in ("trial", "step", self.metric, "time") else "left")
        for key in keys:
            table.add_column(_short(key), justify="right")
        best = self.best()
        for row in rows:
            step = f"{row.step}/{row.max_steps}" if row.max_steps else ""
            cells = [str(row.number), row.state, step, _number(row.score), duration(row.seconds)]
            cells += [_number(row.values.get(key)) for key in keys]
            table.add_row(*cells, style="bold green" if row.number == best else None)
        return table


class _Table(LiveScreen):
    """The line of a run's progress, below a table."""

    def __init__(
        self,
        stream: TextIO,
        line: Callable[[], str],
        table: Callable[[], RenderableType],
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        super().__init__(stream, line, lambda: None, clock)

    def show(self, line: str) -> None:
        """Nothing: it is drawn anew four times a second, which is enough for thousands of evaluations."""

    def _render(self) -> RenderableType:
        from rich.console import Group

        return Group(self._table(), super()._render())


def _order(row: Row) -> tuple[bool, int]:
    return row.state not in ("running", "paused"), -row.number


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _short(key: str) -> str:
    return key.rpartition(".")[2]

"""The rows of ``raytrainer check``: what was looked at, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raytrainer.errors import Problem

Verdict = Literal["ok", "warning", "failed", "not seen"]
_STYLES: dict[Verdict, str] = {"ok": "green", "warning": "yellow", "failed": "red", "not seen": "dim"}


@dataclass(frozen=True)
class Row:
    """One thing that was looked at.

    Args:
        what: the thing.
        verdict: what came of it; ``not seen`` where something else has to be mended first.
        found: what was seen, and for a warning or a failure what to write instead.
    """

    what: str
    verdict: Verdict
    found: str


def failed(what: str, *problems: Problem) -> Row:
    """Make a row of what is wrong."""
    return Row(what, "failed", "\n".join(map(str, problems)))


def print_rows(rows: list[Row], console: Console | None = None) -> None:
    """Print the table, and how many rows of each verdict there are."""
    table = Table(show_edge=False, pad_edge=False)
    for title in ("check", "verdict", "found"):
        table.add_column(title, overflow="fold")
    for row in rows:
        style = _STYLES[row.verdict]
        table.add_row(escape(row.what), f"[{style}]{row.verdict}[/{style}]", escape(row.found))
    console = console or Console(highlight=False)
    console.print(table)
    verdicts = [row.verdict for row in rows]
    counts: list[Verdict] = ["ok", "warning", "failed", "not seen"]
    console.print(", ".join(f"{verdicts.count(v)} {v}" for v in counts if v in verdicts))

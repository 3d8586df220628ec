"""The table of ``make bench``: what was measured, the goal, the verdict; one row for each goal of each benchmark.

A goal that is missed is a row of the table; the exit status is 1 where a benchmark brought no figures at all.
Run: python benchmarks/table.py FOLDER NAME ..., with the files that the benchmarks wrote there by --json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from figures import Goal
from rich.console import Console
from rich.table import Table


def goals(file: Path) -> list[Goal]:
    """Return the goals that a benchmark's file has, with what was measured."""
    told = json.loads(file.read_text())
    return [Goal(goal["what"], goal["measured"], goal["limit"], goal["at_least"]) for goal in told["goals"]]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path, help="where the figures are")
    options.add_argument("names", nargs="+", metavar="name", help="the benchmarks, in the order of the table")
    given = options.parse_args()
    table, without = Table("benchmark", "figure", "measured", "goal", "verdict"), []
    for name in given.names:
        file = given.folder / f"{name}.json"
        if not file.exists():
            without.append(name)
            table.add_row(name, "", "", "", "[red]no figures")
            continue
        for goal in goals(file):
            verdict = "[green]reached" if goal.reached else "[red]MISSED"
            table.add_row(name, goal.what, f"{goal.measured:.3g}", goal.bound, verdict)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    sys.exit(bool(without))


if __name__ == "__main__":
    main()

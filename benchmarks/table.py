"""The table of ``make bench``: what was measured, the goal, the verdict; one row for each goal of each benchmark.

Run: python benchmarks/table.py FOLDER, with the files that the benchmarks wrote there by --json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from figures import Goal
from rich.console import Console
from rich.table import Table


def rows(folder: Path) -> list[tuple[str, Goal]]:
    """Return name and goal for each goal of the files in a folder."""
    told = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    return [
        (each["benchmark"], Goal(goal["what"], goal["measured"], goal["limit"], goal["at_least"]))
        for each in told
        for goal in each["goals"]
    ]


def table(of: list[tuple[str, Goal]]) -> Table:
    """Return the rows as a table."""
    made = Table("benchmark", "figure", "measured", "goal", "verdict")
    for name, goal in of:
        verdict = "[green]reached" if goal.reached else "[red]MISSED"
        made.add_row(name, goal.what, f"{goal.measured:.3g}", goal.bound, verdict)
    return made


def main() -> None:
    found = rows(Path(sys.argv[1]))
    Console(width=None if sys.stdout.isatty() else 160).print(table(found))
    sys.exit(not all(goal.reached for _, goal in found))


if __name__ == "__main__":
    main()

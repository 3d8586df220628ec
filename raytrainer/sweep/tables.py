"""The ranked trials of a sweep: in the terminal, in results.csv and in results.json."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raytrainer.checkpoints import Store
from raytrainer.sweep.record_files import TRIALS, folder_name
from raytrainer.sweep.results import Ranked, Results, read_results
from raytrainer.sweep.verdicts import verdicts
from raytrainer.sweep.wording import NOTHING, folded, number, numbers, short_names, value_text

RESULTS = "results.json"
_SHOWN = 20
_WIDE = 160


def write_results(folder: Store) -> Results:
    """Write results.csv and results.json into a sweep's folder.

    Args:
        folder: the sweep's.

    Returns:
        What was written.

    Raises:
        FileNotFoundError: there is no sweep.json.
        ValueError: sweep.json is none of ours.
        OSError: they cannot be written.
    """
    results = read_results(folder)
    table = rows(results)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(results), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in table)
    folder.write("results.csv", text.getvalue().encode())
    sweep = results.sweep
    told = {name: getattr(sweep, name) for name in ("name", "metric", "mode", "scope", "state", "stopped_by")}
    told["verdicts"] = [vars(verdict) for verdict in verdicts(results)]
    told |= {"columns": columns(results), "trials": [{k: _json(v) for k, v in row.items()} for row in table]}
    folder.write(RESULTS, (json.dumps(told, indent=1, default=str, allow_nan=False) + "\n").encode())
    return results


def columns(results: Results) -> list[str]:
    """Return the names of the columns of results.csv, in their order."""
    names = ["rank", "trial", "state", "score", *results.sweep.metric, "steps", "seconds", "gpu_hours"]
    return list(dict.fromkeys([*names, *results.keys, "origin", "group", "checkpoint"]))


def rows(results: Results) -> list[dict[str, Any]]:
    """Return a row for each trial, best first, with all columns."""
    return [_row(ranked, results) for ranked in results.ranked]


def print_results(results: Results, console: Console | None = None) -> None:
    """Print the best trials, with the values that differ between trials, and what the winner is worth."""
    # Where no terminal says how wide it is, rich would fold everything into 80 columns.
    console = console or Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    if not results.ranked:
        console.print("no trial has begun")
        return
    keys = differing(results)
    shown = next(n for n in range(len(keys), -1, -1) if n == 0 or _fits(_table(results, keys[:n]), console))
    console.print(_table(results, keys[:shown]))
    more = [f"{len(results.ranked) - _SHOWN} more trials"] if len(results.ranked) > _SHOWN else []
    more += [", ".join(short_names(keys)[shown:])] if shown < len(keys) else []
    if more:
        console.print(escape(f"and in results.csv: {'; '.join(more)}"))
    for verdict in verdicts(results):
        console.print(escape(f"{verdict.question}: {verdict.finding}. {verdict.reason}"))


def _fits(table: Table, console: Console) -> bool:
    return console.measure(table, options=console.options.update(max_width=10_000)).maximum <= console.width


def _table(results: Results, keys: Sequence[str]) -> Table:
    repeated = any(len(group.numbers) > 1 for group in results.groups.values())
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for metric in results.sweep.metric:
        table.add_column(escape(folded(metric)), justify="right", no_wrap=True)
    if repeated:
        table.add_column("mean ± sd (runs)", justify="right", no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    for label in short_names(keys):
        table.add_column(escape(folded(label, 10)), justify="right", overflow="fold")
    top = results.ranked[:_SHOWN]
    spelt = list(zip(*(numbers(column) for column in zip(*(r.score.values for r in top), strict=True)), strict=True))
    for ranked, scores in zip(top, spelt, strict=True):
        mean = [spread(ranked, results)] if repeated else []
        values = [escape(value_text(ranked.values.get(key, ""))) for key in keys]
        cells = [str(ranked.rank), str(ranked.number), ranked.trial.state, *scores, *mean, str(ranked.steps), *values]
        table.add_row(*cells, style="bold" if ranked.front else None)
    return table


def spread(ranked: Ranked, results: Results) -> str:
    """Spell mean, standard deviation and number of a configuration's runs."""
    group = results.group_of(ranked)
    if not group.scores:
        return NOTHING
    deviation = "" if math.isnan(group.deviation) else f" ± {group.deviation:.2g}"
    return f"{number(group.mean)}{deviation} ({len(group.scores)})"


def differing(results: Results) -> list[str]:
    """Return the keys whose values are not the same in all trials."""
    seen = {key: {repr(ranked.values.get(key)) for ranked in results.ranked} for key in results.keys}
    return [key for key, values in seen.items() if len(values) > 1]


def _row(ranked: Ranked, results: Results) -> dict[str, Any]:
    record, step, values = ranked.record, ranked.checkpoint, ranked.values
    row: dict[str, Any] = dict.fromkeys(columns(results))
    row |= {key: values.get(key) for key in results.keys}
    row |= dict(zip(results.sweep.metric, ranked.score.values, strict=True))
    row |= {"rank": ranked.rank, "trial": ranked.number, "state": ranked.trial.state, "score": ranked.score.values[0]}
    row |= {"steps": ranked.steps, "seconds": round(record.seconds, 3), "gpu_hours": round(ranked.gpu_hours, 6)}
    checkpoint = None if step is None else f"{TRIALS}/{folder_name(ranked.number)}/checkpoints/checkpoint-{step}"
    return row | {"origin": record.origin, "group": record.group, "checkpoint": checkpoint}


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return ""
    return json.dumps(value, default=str) if isinstance(value, (dict, list, bool)) else value

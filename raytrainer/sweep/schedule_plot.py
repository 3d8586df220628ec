"""The report's plot of population based training: which values each trial trained with, and whose weights it took."""

from __future__ import annotations

from typing import Any

from raytrainer.sweep.plots import Plot, log_axis, text
from raytrainer.sweep.records import Change, TrialRecord
from raytrainer.sweep.results import Results

_COLOURS = 8
_NAMED = ("pbt", "pb2")


def schedules(results: Results) -> list[Plot]:
    """Plot each key whose values were changed in training; nothing for a sweep that changes none."""
    records = [ranked.record for ranked in sorted(results.ranked, key=lambda r: r.number)]
    changes = [change for record in records for change in record.changes]
    if not changes:
        if not any(name in _NAMED for name in results.sweep.scheduler):
            return []
        return [Plot("schedule-0", "Changes while training", why="No trial has taken over another one's weights yet.")]
    began = {record.id: record for record in records}
    keys = dict.fromkeys(key for change in changes for key in change.values)
    changed = [key for key in keys if any(_differs(record, key) for record in records)]
    if not changed:
        why = "Weights were taken over, but no value was changed."
        return [Plot("schedule-0", "Changes while training", why=why)]
    return [_schedule(f"schedule-{i}", key, records, began) for i, key in enumerate(changed)]


def donor_of(change: Change) -> str:
    """Spell whose weights a trial went on with."""
    if change.donor is None and change.donor_number is None:
        return "itself"
    return f"trial {change.donor if change.donor_number is None else change.donor_number}"


def _schedule(name: str, key: str, records: list[TrialRecord], by_id: dict[str, TrialRecord]) -> Plot:
    taken: dict[str, list[Any]] = {"x": [], "y": []}
    traces: list[dict[str, Any]] = []
    for index, record in enumerate(records):
        if not record.history and not record.changes:
            continue
        last = max([record.history[-1].step if record.history else 0, *(change.step for change in record.changes)])
        moments = [(0, record.values.get(key), "begins")]
        for change in record.changes:
            if key in change.values:
                moments.append((change.step, change.values[key], f"from {donor_of(change)}"))
            donor = by_id.get(change.donor or "")
            if donor is not None and key in change.values:
                taken["x"] += [change.step, change.step, None]
                taken["y"] += [_shown(_value(donor, key, change.step)), _shown(change.values[key]), None]
        moments.append((last, moments[-1][1], "ends"))
        colour = f"var(--c{index % _COLOURS})"
        traces.append(
            {
                **{"type": "scatter", "mode": "lines+markers", "name": f"trial {record.number}"},
                **{"x": [m[0] for m in moments], "y": [_shown(m[1]) for m in moments]},
                **{"customdata": [text(m[2]) for m in moments], "marker": {"size": 7, "color": colour}},
                **{"line": {"shape": "hv", "color": colour, "width": 2}, "showlegend": len(records) <= 12},
                "hovertemplate": f"trial {record.number}, step %{{x}}: %{{y}}<br>%{{customdata}}<extra></extra>",
            }
        )
    clones = {
        **{"type": "scatter", "mode": "lines", "name": "taken over", "hoverinfo": "skip", **taken},
        "line": {"color": "var(--muted)", "width": 1.5, "dash": "dot"},
    }
    layout: dict[str, Any] = {"xaxis": {"title": {"text": "optimizer steps"}}}
    layout["yaxis"] = {"title": {"text": text(key.rpartition(".")[2])}}
    values = [value for trace in traces for value in trace["y"] if value is not None]
    if all(isinstance(value, (int, float)) for value in values) and 0 < 10 * min(values) < max(values):
        layout["yaxis"] |= log_axis(values)
    return Plot(name, key, {"data": [clones, *traces], "layout": layout}, height=360)


def _value(record: TrialRecord, key: str, step: int) -> Any:
    """Return a trial's value at a step, before what is changed there."""
    value = record.values.get(key)
    for change in record.changes:
        if change.step < step:
            value = change.values.get(key, value)
    return value


def _shown(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if number or value is None else text(value)


def _differs(record: TrialRecord, key: str) -> bool:
    return any(key in change.values and change.values[key] != record.values.get(key) for change in record.changes)

"""The report's plots of what was measured: learning curves, the best so far, the Pareto front.

A figure is what plotly.js reads. Its colours are names of the style sheet (``var(--best)``); the page fills them in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from raytrainer.sweep.records import Evaluation
from raytrainer.sweep.results import Ranked, Results
from raytrainer.sweep.scores import FAILED
from raytrainer.sweep.spending import Point, best_so_far

_POINTS = 200  # of a curve; more cannot be told apart
_MARKED = 1500  # points in all, above which a curve has no markers


@dataclass(frozen=True)
class Plot:
    """A plot, or why there is none.

    Args:
        name: its id on the page.
        title: above it.
        figure: ``data`` and ``layout``, None where it cannot be made.
        why: why it cannot be made.
        caption: below the title, what a reader has to know.
        height: in pixels.
        wide: whether it needs more width than a phone has.
    """

    name: str
    title: str
    figure: dict[str, Any] | None = None
    why: str = ""
    caption: str = ""
    height: int = 320
    wide: bool = False


def text(value: object) -> str:
    """Return text that plotly.js shows as it is: it reads tags in what it is given."""
    return escape(str(value), quote=False)


def learning_curves(results: Results) -> list[Plot]:
    """Plot every trial's evaluations over its steps, for each objective."""
    return [_learning_curve(results, i, name) for i, name in enumerate(results.sweep.metric)]


def best_over(results: Results) -> list[Plot]:
    """Plot the best evaluation so far over wall time, over all trials' steps and over their GPU-hours."""
    points = best_so_far([ranked.trial for ranked in results.ranked], results.sweep)
    gpus = any(ranked.record.gpus for ranked in results.ranked)
    longest = points[-1].seconds if points else 0.0
    unit, size = next((u for u in (("h", 3600), ("min", 60)) if longest >= 2 * u[1]), ("s", 1))
    hours = "GPU-hours" if gpus else "trial-hours"
    ways: list[tuple[str, str, Callable[[Point], float]]] = [
        ("wall-time", f"wall time [{unit}]", lambda point: point.seconds / size),
        ("hours", f"{hours} of all trials", lambda point: point.gpu_hours if gpus else point.trial_hours),
        ("steps", "optimizer steps of all trials", lambda point: point.steps),
    ]
    plots = []
    for name, axis, of in ways:
        title = "Best so far over " + axis.partition(" of ")[0].partition(" [")[0]
        if len({of(point) for point in points}) < 2:
            plots.append(Plot(f"best-{name}", title, why="Fewer than two evaluations have the metric."))
            continue
        trace = {
            **{"type": "scatter", "mode": "lines+markers", "x": [of(p) for p in points], "y": [p.best for p in points]},
            **{"line": {"shape": "hv", "color": "var(--best)", "width": 2}, "marker": {"size": 3}},
            **{"customdata": [p.number for p in points], "showlegend": False},
            "hovertemplate": f"%{{x:.4g}} {text(axis)}<br>%{{y:.5g}}, trial %{{customdata}}<extra></extra>",
        }
        layout = {"xaxis": {"title": {"text": axis}, "rangemode": "tozero"}}
        layout["yaxis"] = {"title": {"text": text(results.sweep.metric[0])}, **_frame([p.best for p in points])}
        plots.append(Plot(f"best-{name}", title, {"data": [trace], "layout": layout}, height=280))
    return plots


def pareto(results: Results) -> list[Plot]:
    """Plot the first objective against each of the others."""
    names, modes = results.sweep.metric, results.sweep.mode
    measured = [r for r in results.ranked if r.score.measured and r.trial.state not in FAILED]
    plots = []
    for other in range(1, len(names)):
        title = f"Pareto front: {names[0]} ({modes[0]}) and {names[other]} ({modes[other]})"
        if len(measured) < 2:
            plots.append(Plot(f"pareto-{other}", title, why="Fewer than two trials have all objectives."))
            continue
        traces = []
        front = sorted((r for r in measured if r.front), key=lambda r: r.score.values[0])
        for label, colour, members in (
            ("dominated", "var(--dim)", [r for r in measured if not r.front]),
            ("Pareto front", "var(--best)", front),
        ):
            traces.append(
                {
                    **{"type": "scatter", "name": label, "customdata": [r.number for r in members]},
                    **{"x": [r.score.values[0] for r in members], "y": [r.score.values[other] for r in members]},
                    "mode": "lines+markers" if label != "dominated" and len(names) == 2 else "markers",
                    **{"line": {"color": colour, "width": 1, "dash": "dot"}, "marker": {"color": colour, "size": 8}},
                    "hovertemplate": "trial %{customdata}: %{x:.5g}, %{y:.5g}<extra></extra>",
                }
            )
        layout = {"xaxis": {"title": {"text": text(names[0])}}, "yaxis": {"title": {"text": text(names[other])}}}
        several = "A front of more than two objectives may look dominated in a plot of two." if len(names) > 2 else ""
        plots.append(Plot(f"pareto-{other}", title, {"data": traces, "layout": layout}, caption=several, height=380))
    return plots


def log_axis(values: Sequence[float]) -> dict[str, Any]:
    """Return a logarithmic axis for positive numbers, with two to seven ticks that say what they are."""
    low, high = min(values), max(values)
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ticks: list[float] = []
    for mantissas in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)):
        ticks = [t for d in decades for m in mantissas if low * 0.9 <= (t := m * 10.0**d) <= high * 1.1]
        if len(ticks) >= 3:
            break
    shown = ticks[:: math.ceil(len(ticks) / 7)] if ticks else [low, high]
    return {"type": "log", "tickvals": shown, "ticktext": [f"{tick:.2g}" for tick in shown]}


def _learning_curve(results: Results, index: int, name: str) -> Plot:
    title = f"Learning curves: {name}"
    plot, best = f"curves-{index}", results.best
    curves = {r.number: _curve(r.record.history, name) for r in results.ranked}
    if not any(curves.values()):
        return Plot(plot, title, why="No trial has been evaluated with this metric yet.")
    points = sum(map(len, curves.values()))
    kinds = [
        ("stopped early", "var(--dim)", 1.0, [r for r in results.ranked if r.trial.state == "stopped"]),
        ("failed", "var(--bad)", 1.2, [r for r in results.ranked if r.trial.state in FAILED]),
        ("finished", "var(--kept)", 1.2, [r for r in results.ranked if r.trial.state in ("finished", "interrupted")]),
        ("running", "var(--run)", 1.4, [r for r in results.ranked if r.trial.state == "running"]),
    ]
    traces = [
        _curves(label, colour, width, [r for r in members if r is not best], curves, points)
        for label, colour, width, members in kinds
        if any(curves[r.number] for r in members if r is not best)
    ]
    if best is not None:
        traces.append(_curves(f"best (trial {best.number})", "var(--best)", 3.0, [best], curves, 0))
    values = [value for curve in curves.values() for _, value in curve if value is not None]
    layout = {"xaxis": {"title": {"text": "optimizer steps"}, "rangemode": "tozero"}}
    frame = _frame(values)
    layout["yaxis"] = {"title": {"text": text(name)}, **frame}
    caption = "Some evaluations lie outside the frame; a double click shows all." if "range" in frame else ""
    return Plot(plot, title, {"data": traces, "layout": layout}, caption=caption, height=420)


def _curve(history: Sequence[Evaluation], name: str) -> list[tuple[int, float | None]]:
    """Return steps and values, thinned to what can be seen; a value that is no finite number is a gap."""
    having = [(e.step, e.metrics[name]) for e in history if name in e.metrics]
    every = max(1, math.ceil(len(having) / _POINTS))
    chosen = [*having[:-1][::every], *having[-1:]]
    return [(step, value if math.isfinite(value) else None) for step, value in chosen]


def _curves(
    label: str,
    colour: str,
    width: float,
    members: Iterable[Ranked],
    curves: dict[int, list[tuple[int, float | None]]],
    points: int,
) -> dict[str, Any]:
    """Make one trace of many curves, with a gap after each: a trace a trial would be slow for hundreds."""
    joined = [(s, v, r.number) for r in members for s, v in [*curves[r.number], (None, None)]]
    return {
        **{"type": "scatter", "name": label, "mode": "lines+markers" if points < _MARKED else "lines"},
        **{"x": [s for s, _, _ in joined], "y": [v for _, v, _ in joined], "customdata": [n for *_, n in joined]},
        **{"line": {"color": colour, "width": width}, "marker": {"size": 3 + width}, "connectgaps": False},
        "opacity": 0.55 if colour == "var(--dim)" else 0.9,
        "hovertemplate": "trial %{customdata}<br>step %{x}: %{y:.5g}<extra></extra>",
    }


def _frame(values: Sequence[float]) -> dict[str, Any]:
    """Return an axis that shows nearly all values, where a few would press the others flat; else plotly's own."""
    ordered = sorted(value for value in values if math.isfinite(value))
    if len(ordered) < 10:
        return {}
    low, high = ordered[len(ordered) // 20], ordered[-1 - len(ordered) // 20]
    spread = high - low
    bottom, top = max(ordered[0], low - spread), min(ordered[-1], high + spread)
    if spread == 0 or (bottom == ordered[0] and top == ordered[-1]):
        return {}
    return {"range": [bottom - 0.05 * spread, top + 0.05 * spread]}

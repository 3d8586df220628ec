"""The report's plots of Optuna's: parallel coordinates, slices and importances, on a study made of the trials."""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from raytrainer.sweep.plots import Plot, log_axis, text
from raytrainer.sweep.results import Ranked, Results
from raytrainer.sweep.scores import FAILED
from raytrainer.sweep.wording import short_names, value_text

if TYPE_CHECKING:
    import optuna

MISSING = "Optuna is not installed (pip install 'raytrainer[sweep]')."
_LINES = 300  # of the parallel coordinates; more are a carpet
_LETTERS = 28  # of a choice
_FEWEST = 10  # trials that tell anything of a parameter's importance
_FROM, _TO = (163, 172, 184), (47, 111, 237)  # of the worst and the best, readable on light and on dark


def study_plots(results: Results) -> dict[str, list[Plot]]:
    """Make all plots of Optuna's, by section: ``parallel``, ``importances``, ``slices``."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        return {
            "parallel": [Plot("parallel", "Parallel coordinates", why=MISSING)],
            "importances": [Plot("importances-0", "Parameter importances", why=MISSING)],
            "slices": [Plot("slice-0-0", "Slices", why=MISSING)],
        }
    measured = [r for r in results.ranked if r.score.measured and r.trial.state not in FAILED]
    with _quiet():
        keys = [key for key in results.keys if _varies(measured, key)]
        return {
            "parallel": [_parallel(results, measured, keys)],
            "importances": [_importances(results, measured, keys, i) for i in range(len(results.sweep.metric))],
            "slices": _slices(results, measured, keys),
        }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _parallel(results: Results, measured: Sequence[Ranked], keys: Sequence[str]) -> Plot:
    from optuna.visualization import plot_parallel_coordinate

    title, metrics = "Parallel coordinates", results.sweep.metric
    why = _too_few(measured, keys)
    if why:
        return Plot("parallel", title, why=why)
    shown = measured[:_LINES]
    made = _study(results, shown, keys, range(len(metrics)))
    if len(metrics) > 1:
        made.set_metric_names(list(map(text, metrics)))
    figure = _figure(plot_parallel_coordinate(made, target_name=text(metrics[0])))
    lines = [trace for trace in figure["data"] if trace["mode"] == "lines"]
    # Light on light, or dark on dark, is what Optuna's colours would be on one of the two backgrounds.
    up = results.sweep.mode[0] == "max"
    lines.sort(key=lambda trace: trace["y"][0] if up else -trace["y"][0])
    for place, trace in enumerate(lines):
        share = place / max(1, len(lines) - 1)
        colour = "rgb({}, {}, {})".format(*(round(a + (b - a) * share) for a, b in zip(_FROM, _TO, strict=True)))
        trace |= {"line": {"color": colour, "width": 1.4}, "opacity": 0.45 + 0.35 * share}
    lines[-1] |= {"line": {"color": "var(--best)", "width": 3}, "opacity": 1}
    layout = figure["layout"]
    layout = {name: layout[name] for name in ("annotations", "shapes", "xaxis", "yaxis", "hovermode") if name in layout}
    layout["margin"] = {"l": 60, "r": 30, "t": 16, "b": 40}
    for annotation in layout.get("annotations", ()):
        annotation |= {"font": {"size": 11, "color": "var(--muted)"}, "bgcolor": "var(--card)", "borderpad": 0}
    best = "of the first objective " if len(metrics) > 1 else ""
    caption = f"A line is a trial; the bluer the better, the best {best}is orange."
    if len(measured) > _LINES:
        caption += f" The best {_LINES} of {len(measured)} trials."
    return Plot("parallel", title, {"data": lines, "layout": layout}, caption=caption, height=380, wide=True)


def _slices(results: Results, measured: Sequence[Ranked], keys: Sequence[str]) -> list[Plot]:
    from optuna.visualization import plot_slice

    why = _too_few(measured, keys)
    if why:
        return [Plot("slice-0-0", "Slices", why=why)]
    plots = []
    for objective, metric in enumerate(results.sweep.metric):
        made = _study(results, measured, keys, [objective])
        for index, (key, label) in enumerate(zip(keys, _labels(keys), strict=True)):
            figure = _figure(plot_slice(made, params=[label], target_name=text(metric)))
            for trace in figure["data"]:
                numbers = [measured[number].number for number in trace["marker"]["color"]]
                trace |= {"customdata": numbers, "marker": {"color": "var(--run)", "size": 7, "opacity": 0.7}}
                trace["hovertemplate"] = "trial %{customdata}<br>%{x}: %{y:.5g}<extra></extra>"
            layout = {name: figure["layout"][name] for name in ("xaxis", "yaxis")}
            if layout["xaxis"].get("type") == "log":
                layout["xaxis"] |= log_axis([value for trace in figure["data"] for value in trace["x"]])
            title = f"{key}" if len(results.sweep.metric) == 1 else f"{metric} over {key}"
            made_plot = {"data": figure["data"], "layout": layout}
            plots.append(Plot(f"slice-{objective}-{index}", title, made_plot, height=260))
    return plots


def _importances(results: Results, measured: Sequence[Ranked], keys: Sequence[str], objective: int) -> Plot:
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.visualization import plot_param_importances

    metric = results.sweep.metric[objective]
    name = f"importances-{objective}"
    title = "Parameter importances" + (f": {metric}" if len(results.sweep.metric) > 1 else "")
    sampled = {key for r in measured for key in r.record.sampled}
    own = [key for key in keys if key in sampled] or list(keys)
    why = _too_few(measured, own)
    if len(own) == 1:
        why = "Only one parameter was varied."
    elif not why and len(measured) < _FEWEST:
        why = f"{len(measured)} trials with a score are too few; at least {_FEWEST} are needed."
    if why:
        return Plot(name, title, why=why)
    # Five good trials at least: of fewer, where they lie is chance.
    share = min(0.5, max(0.1, 5 / len(measured)))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=share)
    made = _study(results, measured, own, [objective])
    figure = _figure(plot_param_importances(made, evaluator=evaluator, target_name=text(metric)))
    for trace in figure["data"]:
        trace |= {"marker": {"color": "var(--run)"}, "textfont": {"color": "var(--ink)"}}
    xaxis = {"title": {"text": "share"}, "range": [0, 1.12], "fixedrange": True}
    layout = {"xaxis": xaxis, "yaxis": {"fixedrange": True}}
    height = 120 + 34 * len(own)
    return Plot(name, title, {"data": figure["data"], "layout": layout}, height=height)


def _too_few(measured: Sequence[Ranked], keys: Sequence[str]) -> str:
    if len(measured) < 2:
        return f"{'Only one trial has' if measured else 'No trial has'} a score."
    return "" if keys else "All trials have the same values."


def _study(
    results: Results, measured: Sequence[Ranked], keys: Sequence[str], objectives: Sequence[int]
) -> optuna.Study:
    """Make a study whose trials are numbered as ``measured`` is; a key that a trial does not have is left out there."""
    import optuna

    down, up = optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE
    directions = [up if results.sweep.mode[i] == "max" else down for i in objectives]
    made = optuna.create_study(directions=directions)
    columns = {label: _column(results, measured, key) for label, key in zip(_labels(keys), keys, strict=True)}
    for index, ranked in enumerate(measured):
        own = {label: values[index] for label, (values, _) in columns.items() if index in values}
        made.add_trial(
            optuna.trial.create_trial(
                params=own,
                distributions={label: columns[label][1] for label in own},
                values=[ranked.score.values[i] for i in objectives],
            )
        )
    return made


def _column(
    results: Results, measured: Sequence[Ranked], key: str
) -> tuple[dict[int, Any], optuna.distributions.BaseDistribution]:
    """Return a key's values by the trial's index, and a distribution that has all of them."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values = {index: ranked.values[key] for index, ranked in enumerate(measured) if key in ranked.values}
    spelt = results.sweep.space.get(key, "")
    if not all(map(_is_number, values.values())):
        texts = {index: value_text(value) for index, value in values.items()}
        short = _shortened(sorted(set(texts.values())))
        return {i: short[value] for i, value in texts.items()}, CategoricalDistribution(list(short.values()))
    if "choice" in spelt or "grid" in spelt:
        return values, CategoricalDistribution(sorted(set(values.values())))
    low, high = min(values.values()), max(values.values())
    log = "log" in spelt and low > 0
    if all(isinstance(value, int) for value in values.values()):
        return values, IntDistribution(low, high, log=log)
    return values, FloatDistribution(low, high, log=log)


def _shortened(texts: Sequence[str]) -> dict[str, str]:
    """Cut texts to what an axis has room for, each still another than the others."""
    short: dict[str, str] = {}
    for index, value in enumerate(texts):
        cut = text(value if len(value) <= _LETTERS else f"{value[:12]}…{value[-12:]}")
        short[value] = f"{cut} #{index}" if cut in short.values() else cut
    return short


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _labels(keys: Sequence[str]) -> list[str]:
    return [text(name) for name in short_names(keys)]


def _varies(measured: Sequence[Ranked], key: str) -> bool:
    return len({repr(ranked.values[key]) for ranked in measured if key in ranked.values}) > 1


def _figure(figure: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(figure.to_json())
    return made

"""Driver: ``raytrainer report``: one page of a sweep that needs nothing but itself; the sweep may run or have died."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import math
import time
from collections.abc import Iterable
from html import escape
from importlib import resources
from string import Template
from typing import Any

from raytrainer.checkpoints import Store, join, on_this_machine
from raytrainer.errors import Problem, UserError
from raytrainer.sweep import page_parts as parts
from raytrainer.sweep.plots import Plot, best_over, learning_curves, pareto
from raytrainer.sweep.results import Results
from raytrainer.sweep.schedule_plot import schedules
from raytrainer.sweep.spending import savings
from raytrainer.sweep.study_plots import study_plots
from raytrainer.sweep.tables import print_results, write_results
from raytrainer.sweep.verdicts import verdicts

PAGE = "report.html"
BRINGS_PLOTLY = "pip install 'raytrainer[sweep]'"


def report(sweep: str) -> None:
    """Write a sweep's results.csv, results.json and report.html, print the ranked trials and where the page is.

    Args:
        sweep: the sweep's folder, a path or a URI.

    Raises:
        UserError: there is no sweep in the folder, or plotly is not installed.
    """
    path = on_this_machine(sweep)
    folder = Store(path)
    try:
        results = write_results(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise _mistake(sweep, "there is no sweep.json in it", "the folder that raytrainer tune printed") from None
    except (OSError, ValueError) as error:
        fix = "the folder of a sweep, one that can be written"
        raise _mistake(sweep, f"its results cannot be read or written: {error}", fix) from error
    if not show(folder, results):
        raise UserError(Problem("plotly", "not installed", "the report's plots are drawn with it", BRINGS_PLOTLY))


def show(folder: Store, results: Results) -> bool:
    """Print the ranked trials, make the page where plotly is installed, and tell whether it is.

    Args:
        folder: the sweep's.
        results: of the sweep.
    """
    print_results(results)
    if made := write_page(folder, results):
        print(f"page: {join(folder.shown, PAGE)}")
    return made


def write_page(folder: Store, results: Results) -> bool:
    """Write a sweep's report.html where plotly is installed, and tell whether it is.

    Args:
        folder: the sweep's.
        results: of the sweep.
    """
    if importlib.util.find_spec("plotly") is None:
        return False
    folder.write(PAGE, page(results, time.time()).encode())
    return True


def page(results: Results, now: float) -> str:
    """Make the page.

    Args:
        results: of the sweep.
        now: in seconds since the Unix epoch.

    Returns:
        HTML with all styles, scripts and data in it; plotly is installed.
    """
    from plotly.offline import get_plotlyjs

    plotly = get_plotlyjs()
    saved, told = savings([ranked.trial for ranked in results.ranked]), verdicts(results)
    curves, over, front, schedule = learning_curves(results), best_over(results), pareto(results), schedules(results)
    studied = study_plots(results)
    best_caption = f"The best {results.sweep.metric[0]} of any evaluation so far, of whichever trial."
    if not any(ranked.record.gpus for ranked in results.ranked):
        best_caption += " No trial had a GPU, so trial-hours stand in for GPU-hours."
    schedule_caption = "A dotted line leads from the value of the trial whose weights were taken over to the new value."
    importance_caption = "How much a parameter tells the best trials from the others (PED-ANOVA); one study, no proof."
    study_caption = "A trial counts with its score; one that was stopped early, with its score at the stop."
    body = [
        parts.header(results, now),
        parts.tiles(results, saved, now),
        parts.winner(results, told),
        parts.ranking(results),
        *(parts.plots(plot.title, [plot]) for plot in curves),
        parts.plots("Best so far", over, best_caption),
        *(parts.plots(plot.title, [plot]) for plot in front),
        parts.plots("Changes while training", schedule, schedule_caption, parts.changes(results)),
        parts.plots("Parallel coordinates", studied["parallel"], study_caption),
        parts.plots("Parameter importances", studied["importances"], importance_caption),
        parts.plots("Slices", studied["slices"], study_caption),
        parts.stopping(results, saved),
        parts.failures(results),
        parts.space(results),
    ]
    everything = [*curves, *over, *front, *schedule, *(plot for made in studied.values() for plot in made)]
    return _fill(results.sweep.name, "\n".join(filter(None, body)), everything, plotly)


def _fill(title: str, body: str, plots: Iterable[Plot], plotly: str) -> str:
    script = _file("report.js")
    # Nothing but these two scripts may run, whatever text a trial has brought, and nothing may be fetched.
    hashes = " ".join(f"'sha256-{_digest(code)}'" for code in (plotly, script))
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"
    figures = {plot.name: plot.figure for plot in plots if plot.figure is not None}
    return Template(_file("report.html")).substitute(
        policy=policy,
        title=f"{escape(title)}: sweep",
        style=_file("report.css"),
        body=body,
        plotly=plotly,
        figures=_data(figures),
        script=script,
    )


def _data(values: Any) -> str:
    """Return JSON that can stand in a script element: it has no ``<``."""
    text = json.dumps(_finite(values), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _file(name: str) -> str:
    return (resources.files("raytrainer.sweep") / "page" / name).read_text(encoding="utf-8")


def _digest(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def _mistake(sweep: str, reason: str, fix: str) -> UserError:
    return UserError(Problem("SWEEP", sweep, reason, fix))

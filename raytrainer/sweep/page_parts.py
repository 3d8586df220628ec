"""The parts of the report that are no plots, as HTML: all text of the user's is escaped here."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from raytrainer.sweep.plots import Plot
from raytrainer.sweep.records import seconds_ran
from raytrainer.sweep.results import Ranked, Results
from raytrainer.sweep.schedule_plot import donor_of
from raytrainer.sweep.scores import FAILED
from raytrainer.sweep.spending import Savings
from raytrainer.sweep.tables import differing, spread
from raytrainer.sweep.verdicts import Verdict
from raytrainer.sweep.wording import NOTHING, duration, folded, number, numbers, short_names, value_text

_CHANGES = 200
_KINDS = {"better by more than the noise": "better", "within the noise": "within", "worse": "worse"}


def header(results: Results, now: float) -> str:
    """Say which sweep it is, how it searched, and how fresh the page is."""
    sweep = results.sweep
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    ways = [f"search {', '.join(sweep.search) or 'random'}", f"scheduler {', '.join(sweep.scheduler) or 'fifo'}"]
    ways += [f"seed {sweep.seed}"] if sweep.seed is not None else []
    ways += [f"{sweep.repeats} runs of each configuration"] if sweep.repeats > 1 else []
    lines = [f"<p class=muted>{escape(' · '.join(ways))} · page made {made}</p>"]
    last = max((r.record.history[-1].time for r in results.ranked if r.record.history), default=sweep.began)
    if sweep.state == "running":
        ago = duration(max(0.0, now - last))
        lines.append(f"<p>The sweep has not ended, or its driver died: the last evaluation was {ago} ago.</p>")
    if sweep.stopped_by:
        lines.append(f"<p>Ended by its budget: {escape(sweep.stopped_by)}.</p>")
    return f"<h1>{escape(sweep.name)} {_state(sweep.state)}</h1>{''.join(lines)}"


def tiles(results: Results, saved: Savings, now: float) -> str:
    """Show the figures that are looked for first."""
    sweep, best, ranked = results.sweep, results.best, results.ranked
    first = (
        (NOTHING, "no trial has a score yet") if best is None else (number(best.score.values[0]), _metric(results, 0))
    )
    counts = Counter(r.trial.state for r in ranked)
    told = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    wall = seconds_ran(sweep, [r.trial for r in ranked])
    at_a_time = f"wall time, {sweep.concurrency} at a time" if sweep.concurrency else "wall time"
    gpu_hours, hours = sum(r.gpu_hours for r in ranked), sum(r.record.seconds for r in ranked) / 3600
    used = (number(gpu_hours, 3), "GPU-hours") if gpu_hours else (number(hours, 3), "trial-hours, no GPU")
    spared = f"{saved.share:.0%}" if saved.trials else "0 %"
    shown = [first, (str(len(ranked)), f"trials: {told}" if told else "trials"), (duration(wall), at_a_time), used]
    shown.append((spared.replace("%", " %").replace("  ", " "), "of the steps spared by early stopping"))
    cells = (f"<div class='tile{' first' if i == 0 else ''}'><b>{escape(value)}</b><span>{escape(label)}</span></div>"
             for i, (value, label) in enumerate(shown))  # fmt: skip
    return f"<div class=tiles>{''.join(cells)}</div>"


def winner(results: Results, verdicts: Sequence[Verdict]) -> str:
    """Show the best trial's values, and whether it is worth anything."""
    best = results.best
    if best is None:
        return _section("Best trial", "<p class=none>No trial has a score yet.</p>")
    pairs = [(name, number(value)) for name, value in zip(results.sweep.metric, best.score.values, strict=True)]
    if len(results.group_of(best).numbers) > 1:
        pairs.append(("mean ± sd (runs)", spread(best, results)))
    evaluation = best.score.evaluation
    pairs.append(("measured at step", str(evaluation.step if evaluation else 0)))
    pairs += [(key, value_text(value)) for key, value in best.values.items()]
    values = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    told = "".join(
        f"<div class='verdict {_KINDS.get(v.finding, 'unknown')}'>{escape(v.question)}: <b>{escape(v.finding)}</b>"
        f"<p class=caption>{escape(v.reason)}</p></div>"
        for v in verdicts
    )
    front = sum(r.front for r in results.ranked)
    several = f"<p class=caption>One of {front} on the Pareto front: the best by {escape(results.sweep.metric[0])}.</p>"
    title = f"Best trial: {best.number}"
    halves = f"<div class=halves><div>{several if len(results.sweep.metric) > 1 else ''}<dl>{values}</dl></div>"
    return _section(title, f"{halves}<div><h3>Is it better?</h3>{told}</div></div>")


def ranking(results: Results) -> str:
    """Show all trials, best first; a click on a head sorts by it."""
    if not results.ranked:
        return _section("Trials", "<p class=none>No trial has begun.</p>")
    keys, ranked = differing(results), results.ranked
    repeated = any(len(group.numbers) > 1 for group in results.groups.values())
    heads = [("rank", ""), ("trial", ""), ("state", "text"), *((name, "") for name in results.sweep.metric)]
    heads += [("mean ± sd (runs)", "")] if repeated else []
    heads += [("steps", ""), ("time", ""), *((name, "") for name in short_names(keys)), ("origin", "text")]
    spelt = list(zip(*(numbers(column) for column in zip(*(r.score.values for r in ranked), strict=True)), strict=True))
    body = []
    for r, scores in zip(ranked, spelt, strict=True):
        cells = [_cell(r.rank), _cell(r.number), f"<td class=text>{_state(r.trial.state)}</td>"]
        cells += [_cell(text, value) for text, value in zip(scores, r.score.values, strict=True)]
        mean = results.group_of(r).mean
        cells += [_cell(spread(r, results), mean)] if repeated else []
        cells += [_cell(r.steps), _cell(duration(r.record.seconds), r.record.seconds)]
        cells += [_cell(value_text(r.values[key]), r.values[key]) if key in r.values else _cell("", "") for key in keys]
        cells.append(f"<td class=text>{escape(r.record.origin)}</td>")
        body.append(f"<tr{' class=best' if r.front else ''}>{''.join(cells)}</tr>")
    same = [key for key in results.keys if key not in keys]
    values = {key: value_text(ranked[0].values[key]) for key in same if key in ranked[0].values}
    caption = "The same in all trials: " + ", ".join(f"{key} {value}" for key, value in values.items())
    note = f"<p class=caption>{escape(caption)}</p>" if values and len(ranked) > 1 else ""
    return _section("Trials", note + _table(heads, body, "sortable"))


def stopping(results: Results, saved: Savings) -> str:
    """Say what early stopping spared."""
    title = "What early stopping spared"
    if not saved.trials:
        return _section(title, "<p class=none>No trial was stopped early.</p>")
    gpus = any(r.record.gpus for r in results.ranked)
    hours = f"{number(saved.gpu_hours, 3)} GPU-hours" if gpus else f"{number(saved.hours, 3)} trial-hours"
    told = (
        f"<p>{saved.trials} of {len(results.ranked)} trials were stopped early. They had {saved.steps:,} steps left,"
        f" about {hours} at their own pace; {saved.used_steps:,} steps were trained in all.</p>"
    )
    share = f"{100 * saved.share:.1f}"
    bar = f"<div class=bar><i style='width:{100 - float(share):.1f}%'></i><i style='width:{share}%'></i></div>"
    unknown = (
        f" {saved.unknown} of the stopped trials are not counted: their pace is not known." if saved.unknown else ""
    )
    caption = f"<p class=caption>Trained (blue) and spared ({share} %, grey) steps.{unknown}</p>"
    return _section(title, told + bar + caption)


def failures(results: Results) -> str:
    """Show what broke; nothing where nothing did."""
    failed = [r for r in results.ranked if r.trial.state in FAILED or (r.trial.end and r.trial.end.error)]
    if not failed:
        return ""
    blocks = "".join(f"<h3>Trial {r.number} {_state(r.trial.state)}</h3>{_error(r)}" for r in failed)
    return _section(f"Failures ({len(failed)})", blocks)


def changes(results: Results) -> str:
    """List the values that were changed in training; nothing where none was."""
    made = sorted((c.step, r.number, donor_of(c), c.values) for r in results.ranked for c in r.record.changes)
    if not made:
        return ""
    heads = [("step", ""), ("trial", ""), ("goes on from", "text"), ("with", "text")]
    body = [
        f"<tr>{_cell(step)}{_cell(number_)}<td class=text>{escape(donor)}</td><td class=text>"
        f"{escape(', '.join(f'{key} {value_text(value)}' for key, value in values.items()))}</td></tr>"
        for step, number_, donor, values in made[:_CHANGES]
    ]
    more = f"<p class=caption>The first {_CHANGES} of {len(made)}.</p>" if len(made) > _CHANGES else ""
    return f"<details><summary>{len(made)} changes</summary>{more}{_table(heads, body, 'sortable')}</details>"


def space(results: Results) -> str:
    """Show what was searched."""
    pairs = "".join(f"<dt>{escape(k)}</dt><dd><code>{escape(v)}</code></dd>" for k, v in results.sweep.space.items())
    return _section("Search space", f"<dl class=space>{pairs}</dl>") if pairs else ""


def plots(title: str, made: Sequence[Plot], caption: str = "", after: str = "") -> str:
    """Make places for plots, one beside the other where they are several; each that is missing says why."""
    if not made:
        return ""
    drawn = any(plot.figure for plot in made)
    note = f"<p class=caption>{escape(caption)}</p>" if caption and drawn else ""
    if len(made) == 1 and (made[0].title == title or made[0].figure is None):
        return _section(title, note + _place(made[0]) + after)
    blocks = "".join(f"<div><h3>{escape(plot.title)}</h3>{_place(plot)}</div>" for plot in made)
    return _section(title, f"{note}<div class=plots>{blocks}</div>{after}")


def _place(plot: Plot) -> str:
    caption = f"<p class=caption>{escape(plot.caption)}</p>" if plot.caption else ""
    if plot.figure is None:
        return f"{caption}<p class=none>{escape(plot.why)}</p>"
    place = f"<div class=plot id='{plot.name}' style='height:{plot.height}px'></div>"
    return caption + (f"<div class=wide>{place}</div>" if plot.wide else place)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(heads: Iterable[tuple[str, str]], rows: Iterable[str], kind: str) -> str:
    head = "".join(
        f"<th scope=col class='{alignment}'><button type=button>{escape(folded(name, 16))}</button></th>"
        for name, alignment in heads
    )
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f"<div class=scroll><table class={kind}>{body}</table></div>"


def _cell(text: object, value: object = None) -> str:
    """Make a cell; what it is sorted by is its value, where the text is shorter."""
    by = "" if value is None else f" data-value='{escape('' if value != value else str(value))}'"
    return f"<td{by}>{escape(str(text))}</td>"


def _state(state: str) -> str:
    return f"<span class='state {escape(state)}'>{escape(state)}</span>"


def _metric(results: Results, index: int) -> str:
    counted = {"best": ", best evaluation", "last": ", last evaluation"}.get(results.sweep.scope, "")
    return f"{results.sweep.metric[index]} ({results.sweep.mode[index]}{counted})"


def _error(ranked: Ranked) -> str:
    end = ranked.trial.end
    told = (end.error or end.reason if end else None) or ranked.trial.damage or "nothing is known of the reason"
    return f"<pre>{escape(told)}</pre>"

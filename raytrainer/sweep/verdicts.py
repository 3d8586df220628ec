"""Whether a sweep's winner is better than what it is compared with by more than the noise, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from raytrainer.sweep.groups import Group, Noise
from raytrainer.sweep.results import Ranked, Results
from raytrainer.sweep.scores import dominates, loss
from raytrainer.sweep.spending import BUDGETS, trained_steps
from raytrainer.sweep.wording import number

Finding = Literal["better by more than the noise", "within the noise", "worse", "not measured"]

_DRAWS = 10_000
_ENOUGH = 5  # random trials; of fewer the best of several draws is nearly always the best of them


@dataclass(frozen=True)
class Verdict:
    """What a comparison of the winner came to.

    Args:
        question: what it was compared with.
        finding: what came of it; nothing is claimed that was not measured.
        reason: the numbers, or why there are none.
    """

    question: str
    finding: Finding
    reason: str


@dataclass(frozen=True)
class BestOf:
    """The best score of several random trials.

    Args:
        draws: how many.
        expected: mean of the best.
        low: the best is below it once in 40 times.
        high: the best is above it once in 40 times.
    """

    draws: int
    expected: float
    low: float
    high: float


def verdicts(results: Results) -> list[Verdict]:
    """Compare the winner with the base configuration and with plain random search."""
    return [against_default(results), against_random(results)]


def against_default(results: Results) -> Verdict:
    """Compare the winner with the base configuration, the trials of origin ``default``."""
    question = "Against the base configuration"
    best, base = results.best, [r for r in results.ranked if r.record.origin == "default"]
    if best is None:
        return Verdict(question, "not measured", "No trial has a score.")
    if not base:
        return Verdict(
            question, "not measured", "The base configuration was not among the trials (tune.baseline: true)."
        )
    if len(results.sweep.metric) > 1:
        return Verdict(question, "not measured", _several_objectives(results, base))
    if best.record.origin == "default":
        return Verdict(question, "within the noise", "The base configuration itself is the best of all trials.")
    group = results.group_of(base[0])
    states = {r.trial.state for r in base}
    if not group.scores or states - {"finished"}:
        seen = ", ".join(sorted(states))
        return Verdict(question, "not measured", f"The base configuration was not trained to its end ({seen}).")
    if any(r.record.changes for r in base):
        return Verdict(question, "not measured", "The base configuration's trials took over other trials' values.")
    winner = results.group_of(best)
    margin = loss(group.mean, results.sweep.mode[0]) - loss(winner.mean, results.sweep.mode[0])
    numbers = f"{_mean(winner)} against {_mean(group)}, {_difference(margin, group.mean)}"
    if results.noise is None:
        told = f"{numbers}; no configuration was repeated, so the noise is not known (tune.repeats: 3)."
        return Verdict(question, "not measured", told)
    rivals = sum(bool(g.scores) and g.origin != "default" for g in results.groups.values())
    needed = least_margin(results.noise, rivals, len(winner.scores), len(group.scores))
    told = f"{numbers}; chance alone would give the best of {rivals} up to {number(needed, 2)} (95 %)."
    return Verdict(question, "better by more than the noise" if margin > needed else "within the noise", told)


def least_margin(noise: Noise, rivals: int, repeats: int, base_repeats: int) -> float:
    """Return the margin by which the best of several rivals beats the base once in 20 times though all are equal.

    That the winner was picked as the best of many, and that the noise itself is only estimated, are both counted in.

    Args:
        noise: between runs of one configuration.
        rivals: configurations that the winner is the best of.
        repeats: runs of each of them.
        base_repeats: runs of the base configuration.
    """
    random = np.random.default_rng(0)
    # The largest of n uniform numbers is distributed as the n-th root of one.
    largest = [NormalDist().inv_cdf(u ** (1 / rivals)) for u in random.uniform(1e-12, 1 - 1e-12, _DRAWS)]
    margins = np.array(largest) / math.sqrt(repeats) - random.standard_normal(_DRAWS) / math.sqrt(base_repeats)
    estimates = np.sqrt(random.chisquare(noise.freedom, _DRAWS) / noise.freedom)
    return noise.deviation * float(np.quantile(margins / estimates, 0.95))


def against_random(results: Results) -> Verdict:
    """Compare the winner with what as many steps of plain random search would be expected to find."""
    question = "Against plain random search at equal budget"
    best, sweep = results.best, results.sweep
    if best is None:
        return Verdict(question, "not measured", "No trial has a score.")
    if len(sweep.metric) > 1:
        return Verdict(question, "not measured", "With several objectives there is no one winner to compare.")
    if any(r.record.changes for r in results.ranked):
        told = "The trials took over weights and values from each other, so none of them is a plain random draw."
        return Verdict(question, "not measured", told)
    drawn = [r for r in results.ranked if r.record.origin == "random"]
    pool, draws = _whole(results, drawn), equal_draws(results)
    cut = [r for r in drawn if r.trial.end and r.trial.state == "stopped" and r.trial.end.reason not in BUDGETS]
    if cut:
        return Verdict(question, "not measured", _cut_short(best, len(cut), len(drawn), draws))
    if len(pool) < _ENOUGH:
        told = f"Only {len(pool)} random trials were trained to their end; at least {_ENOUGH} are needed."
        return Verdict(question, "not measured", told)
    others = [r for r in results.ranked if r.record.origin not in ("random", "default")]
    if not others:
        return Verdict(question, "not measured", "This sweep is plain random search.")
    bound = best_of(pool, draws, sweep.mode[0])
    told = (
        f"{number(results.group_of(best).mean)} against {number(bound.expected)} expected of the best of {draws} random"
        f" trials (95 %: {number(bound.low)} to {number(bound.high)}; from {len(pool)} trials, bootstrap)"
    )
    beyond = bound.low if sweep.mode[0] == "min" else bound.high
    if loss(results.group_of(best).mean, sweep.mode[0]) >= loss(beyond, sweep.mode[0]):
        other = bound.high if sweep.mode[0] == "min" else bound.low
        behind = loss(results.group_of(best).mean, sweep.mode[0]) > loss(other, sweep.mode[0])
        return Verdict(question, "worse" if behind else "within the noise", f"{told}.")
    if draws > len(pool):
        told += f"; but {draws} draws may find better than the best of the {len(pool)} that were seen."
        return Verdict(question, "not measured", told)
    return Verdict(question, "better by more than the noise", f"{told}.")


def _whole(results: Results, drawn: Sequence[Ranked]) -> list[float]:
    """Return the scores of the random configurations that ended; one that diverged has the worst of the others."""
    ended = {results.group_of(r).name: results.group_of(r) for r in drawn if r.trial.state == "finished"}
    scores = [group.mean for group in ended.values() if group.scores]
    worst = max(scores, key=lambda value: loss(value, results.sweep.mode[0]), default=math.nan)
    return scores + [worst] * (len(ended) - len(scores)) if scores else []


def best_of(scores: Sequence[float], draws: int, mode: str) -> BestOf:
    """Estimate by bootstrap the best score of several random trials.

    Args:
        scores: of the random trials that were seen.
        draws: how many trials the best is of.
        mode: ``min`` or ``max``.
    """
    # The best of n draws out of m is the k-th best of the m where the n-th root falls.
    ordered = np.sort(np.asarray(scores, dtype=float))
    share = np.random.default_rng(0).uniform(0, 1, _DRAWS) ** (1 / draws)
    places = np.minimum((share * len(ordered)).astype(int), len(ordered) - 1)
    found = ordered[places] if mode == "max" else ordered[len(ordered) - 1 - places]
    low, high = np.quantile(found, [0.025, 0.975])
    return BestOf(draws, float(found.mean()), float(low), float(high))


def equal_draws(results: Results) -> int:
    """Return how many configurations random search would train to their end with the steps that the sweep used."""
    full = [r.record.max_steps for r in results.ranked if r.record.max_steps]
    used = sum(sum(trained_steps(r.record)) for r in results.ranked)
    repeats = max(1, results.sweep.repeats)
    draws = used / float(np.median(full)) if full else sum(r.score.measured for r in results.ranked)
    return max(1, round(draws / repeats))


def _mean(group: Group) -> str:
    count = len(group.scores)
    return number(group.mean) if count == 1 else f"{number(group.mean)} ± {number(group.deviation, 2)} ({count} runs)"


def _difference(margin: float, base: float) -> str:
    word = "better" if margin >= 0 else "worse"
    share = f" ({abs(margin / base):.1%})" if base else ""
    return f"{number(abs(margin))} {word}{share}"


def _several_objectives(results: Results, base: Sequence[Ranked]) -> str:
    losses = [loss(v, m) for v, m in zip(base[0].score.values, results.sweep.mode, strict=True)]
    front = [r for r in results.ranked if r.front]
    ahead = sum(dominates(list(map(loss, r.score.values, results.sweep.mode)), losses) for r in front)
    return (
        f"With several objectives there is no one winner. {ahead} of the {len(front)} trials on the Pareto front are"
        " nowhere worse than the base configuration and somewhere better, by single runs."
    )


def _cut_short(best: Ranked, cut: int, drawn: int, draws: int) -> str:
    told = f"{cut} of the {drawn} random trials were stopped early, so what they would have come to is not known."
    if best.record.origin == "random" and draws < drawn:
        told += (
            f" If none of them had beaten the winner, random search with the same steps ({draws} whole trials)"
            f" would have drawn it {draws / drawn:.0%} of the time."
        )
    return told

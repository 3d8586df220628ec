"""What a trial's evaluations count for: its score, by the sweep's metric, mode and scope."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raytrainer.sweep.records import Evaluation, SweepRecord, Trial, TrialRecord

FAILED = ("failed", "unreadable")
"""The states of trials that rank behind all others."""


@dataclass(frozen=True)
class Score:
    """What a trial came to.

    Args:
        values: of each objective, NaN where it was not measured.
        evaluation: the one that counts, None without one.
    """

    values: tuple[float, ...]
    evaluation: Evaluation | None = None

    @property
    def measured(self) -> bool:
        """Whether it can win: every objective is a number, and a finite one."""
        return all(map(math.isfinite, self.values))


def loss(value: float, mode: str) -> float:
    """Return a metric's value so that less is better; of one that is no finite number, infinity."""
    if not math.isfinite(value):
        return math.inf
    return -value if mode == "max" else value


def objectives(evaluation: Evaluation, sweep: SweepRecord) -> tuple[float, ...]:
    """Return the objectives' values at an evaluation, NaN for those it does not have."""
    return tuple(evaluation.metrics.get(name, math.nan) for name in sweep.metric)


def score(trial: Trial, sweep: SweepRecord) -> Score:
    """Say what a trial came to.

    The last evaluation that has a metric of the sweep counts, also when it is NaN: that training has diverged. In scope
    ``best`` it is the best one; of several objectives, the best by the first of them.
    """
    having = [e for e in trial.record.history if any(name in e.metrics for name in sweep.metric)]
    if not having:
        return Score((math.nan,) * len(sweep.metric))
    chosen = having[-1]
    if sweep.scope == "best":
        whole = [e for e in having if Score(objectives(e, sweep)).measured]
        chosen = min(whole or having[-1:], key=lambda e: loss(objectives(e, sweep)[0], sweep.mode[0]))
    return Score(objectives(chosen, sweep), chosen)


def values_at(record: TrialRecord, evaluation: Evaluation | None) -> dict[str, Any]:
    """Return the values that an evaluation was trained with: what a trial began with, and its changes before it."""
    values = dict(record.values)
    for change in record.changes:
        if evaluation is None or change.step < evaluation.step:
            values |= change.values
    return values


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether losses are nowhere worse than others, and somewhere better."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def fronts(points: Sequence[Sequence[float]]) -> list[int]:
    """Sort points by domination: 0 for the Pareto front, 1 for the front of the rest, and so on.

    Args:
        points: losses of each, one an objective.

    Returns:
        A number for each point.
    """
    ranks, left, rank = [0] * len(points), set(range(len(points))), 0
    while left:
        front = {i for i in left if not any(dominates(points[j], points[i]) for j in left)}
        for index in front:
            ranks[index] = rank
        left, rank = left - front, rank + 1
    return ranks

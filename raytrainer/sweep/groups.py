"""Repeats of one configuration, and the noise that they show."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from raytrainer.sweep.records import Trial
from raytrainer.sweep.scores import FAILED, Score


@dataclass(frozen=True)
class Group:
    """The trials of one configuration.

    Args:
        name: what they share; of a trial without repeats its own number, negative.
        numbers: of all its trials.
        scores: of those that were measured and did not fail, by the first objective.
        origin: where the configuration comes from.
    """

    name: int
    numbers: tuple[int, ...]
    scores: tuple[float, ...]
    origin: str

    @property
    def mean(self) -> float:
        """Of the scores, NaN without one."""
        return statistics.fmean(self.scores) if self.scores else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation of the scores, NaN for fewer than two."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else math.nan


@dataclass(frozen=True)
class Noise:
    """How much the score of one configuration differs from run to run.

    Args:
        deviation: standard deviation, pooled over the configurations that were repeated.
        freedom: its degrees of freedom.
        groups: how many configurations it comes from.
    """

    deviation: float
    freedom: int
    groups: int


def group_name(trial: Trial) -> int:
    """Return what the repeats of a trial's configuration share."""
    return -trial.record.number if trial.record.group is None else trial.record.group


def groups(scored: Iterable[tuple[Trial, Score]]) -> dict[int, Group]:
    """Put the repeats of each configuration together, by name."""
    members: dict[int, list[tuple[Trial, Score]]] = {}
    for trial, score in scored:
        members.setdefault(group_name(trial), []).append((trial, score))
    return {
        name: Group(
            name,
            numbers=tuple(trial.record.number for trial, _ in pairs),
            scores=tuple(s.values[0] for trial, s in pairs if s.measured and trial.state not in FAILED),
            origin=pairs[0][0].record.origin,
        )
        for name, pairs in members.items()
    }


def noise(found: Iterable[Group]) -> Noise | None:
    """Measure the noise; None where no configuration has two scores."""
    repeated = [group for group in found if len(group.scores) > 1]
    freedom = sum(len(group.scores) - 1 for group in repeated)
    if not freedom:
        return None
    squares = sum((len(group.scores) - 1) * group.deviation**2 for group in repeated)
    return Noise(math.sqrt(squares / freedom), freedom, len(repeated))

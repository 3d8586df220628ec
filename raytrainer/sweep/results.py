"""What a sweep came to: its trials, ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from raytrainer.checkpoints import Store
from raytrainer.sweep.groups import Group, Noise, group_name, groups, noise
from raytrainer.sweep.record_files import read_sweep, read_trials
from raytrainer.sweep.records import SweepRecord, Trial, TrialRecord
from raytrainer.sweep.scores import FAILED, Score, fronts, loss, score, values_at


@dataclass(frozen=True)
class Ranked:
    """A trial and its place.

    Args:
        rank: from 1.
        trial: the trial.
        score: what it came to.
        front: whether no other trial is better in every objective; for one objective, whether it is the best.
    """

    rank: int
    trial: Trial
    score: Score
    front: bool = False

    @property
    def record(self) -> TrialRecord:
        """Its trial.json."""
        return self.trial.record

    @property
    def number(self) -> int:
        """The trial's number."""
        return self.trial.record.number

    @property
    def values(self) -> dict[str, Any]:
        """What was trained with when the score was measured, by key."""
        return values_at(self.record, self.score.evaluation)

    @property
    def steps(self) -> int:
        """Optimizer steps it came to."""
        return self.record.history[-1].step if self.record.history else 0

    @property
    def gpu_hours(self) -> float:
        """What it used."""
        return self.record.gpus * self.record.seconds / 3600

    @property
    def checkpoint(self) -> int | None:
        """The step of the checkpoint that has what was scored, else of the newest; None without one."""
        scored = self.score.evaluation.step if self.score.evaluation else None
        return scored if scored in self.trial.checkpoints else max(self.trial.checkpoints, default=None)


@dataclass(frozen=True)
class Results:
    """What a sweep came to.

    Args:
        sweep: its record.
        ranked: all its trials, best first.
        groups: the configurations, by name.
        noise: between runs of one configuration, None where none was repeated.
    """

    sweep: SweepRecord
    ranked: tuple[Ranked, ...]
    groups: dict[int, Group]
    noise: Noise | None

    @property
    def best(self) -> Ranked | None:
        """The first of the ranked; None where nothing was measured. Of several objectives, the best by the first."""
        first = self.ranked[0] if self.ranked else None
        return first if first is not None and first.score.measured and first.trial.state not in FAILED else None

    @cached_property
    def keys(self) -> list[str]:
        """All keys that were swept, in the order of the search space."""
        used = {key: None for ranked in sorted(self.ranked, key=lambda r: r.number) for key in ranked.values}
        return list({**dict.fromkeys(self.sweep.space), **used})

    def group_of(self, ranked: Ranked) -> Group:
        """Return a trial's configuration with all its repeats."""
        return self.groups[group_name(ranked.trial)]


def results_of(sweep: SweepRecord, trials: Sequence[Trial]) -> Results:
    """Rank a sweep's trials.

    What failed comes last, before it what was not measured. Repeats of one configuration stand together in the place
    that their mean has, behind all configurations of which more repeats were measured. Of several objectives the Pareto
    front comes first, in the order of the first objective.

    Args:
        sweep: its record.
        trials: all of them.
    """
    scored = [(trial, score(trial, sweep)) for trial in trials]
    found = groups(scored)
    losses = [tuple(map(loss, s.values, sweep.mode)) for _, s in scored]
    contending = [i for i, (trial, s) in enumerate(scored) if s.measured and trial.state not in FAILED]
    several = len(sweep.metric) > 1
    front = dict(zip(contending, fronts([losses[i] for i in contending]), strict=True)) if several else {}

    def place(index: int) -> tuple[float, ...]:
        trial, own = scored[index][0], (losses[index][0], scored[index][0].record.number)
        if index not in contending:
            return (2 if trial.state in FAILED else 1, 0, 0, 0, *own)
        if several:
            return (0, front[index], 0, 0, *own)
        group = found[group_name(trial)]
        missing = max(0, sweep.repeats - len(group.scores)) if trial.record.group is not None else 0
        return (0, missing, loss(group.mean, sweep.mode[0]), min(group.numbers), *own)

    order = sorted(range(len(scored)), key=place)
    leading = {index for index, level in front.items() if level == 0} if several else set(order[:1]) & set(contending)
    ranked = tuple(Ranked(rank, *scored[index], front=index in leading) for rank, index in enumerate(order, 1))
    return Results(sweep, ranked, found, noise(found.values()))


def read_results(folder: Store) -> Results:
    """Read a sweep's folder and rank its trials; the sweep may be running, or have died.

    Raises:
        FileNotFoundError: there is no sweep.json.
        ValueError: sweep.json is none of ours.
    """
    return results_of(read_sweep(folder), read_trials(folder))

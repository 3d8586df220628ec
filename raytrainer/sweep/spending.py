"""What a sweep's trials used, what early stopping spared them, and how the best came down the while."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raytrainer.sweep.records import SweepRecord, Trial, TrialRecord
from raytrainer.sweep.scores import loss, objectives

BUDGETS = ("time", "gpu_hours", "max_trials", "patience")
"""Reasons for a trial's end that are the sweep's, not a scheduler's."""


@dataclass(frozen=True)
class Point:
    """The best evaluation up to a moment, and what all trials had used by then.

    Args:
        seconds: since the sweep began.
        steps: optimizer steps of all trials.
        trial_hours: of all trials.
        gpu_hours: of all trials.
        best: value of the first objective.
        number: of the trial that has it.
    """

    seconds: float
    steps: int
    trial_hours: float
    gpu_hours: float
    best: float
    number: int


def trained_steps(record: TrialRecord) -> list[int]:
    """Return how many steps were trained for each evaluation.

    A trial that went on from another's checkpoint, or anew from its own, did not train the steps below it.
    """
    trained, earlier = [], 0
    seen = {0}
    for evaluation in record.history:
        changed = [c.step for c in record.changes if c.step < evaluation.step]
        if evaluation.step > earlier:
            start = max([earlier, *changed])
        else:
            start = max([step for step in seen if step < evaluation.step] + changed, default=evaluation.step)
        trained.append(evaluation.step - start)
        earlier = evaluation.step
        seen.add(earlier)
    return trained


def best_so_far(trials: Iterable[Trial], sweep: SweepRecord) -> list[Point]:
    """Return a point for every evaluation that has the first objective, in the order of time.

    Whatever the sweep's scope, every evaluation counts: which one will be a trial's last is not known while it trains.
    """
    moments = []
    for trial in trials:
        before = 0.0
        for evaluation, steps in zip(trial.record.history, trained_steps(trial.record), strict=True):
            hours = max(0.0, evaluation.seconds - before) / 3600
            moments.append((evaluation.time, trial.record, evaluation, steps, hours))
            before = max(before, evaluation.seconds)
    moments.sort(key=lambda moment: (moment[0], moment[1].number))
    began = sweep.began or min((moment[0] for moment in moments), default=0.0)
    points: list[Point] = []
    steps_used, hours_used, gpu_hours_used, best, number = 0, 0.0, 0.0, math.nan, 0
    for time, record, evaluation, steps, hours in moments:
        steps_used, hours_used, gpu_hours_used = (
            steps_used + steps,
            hours_used + hours,
            gpu_hours_used + hours * record.gpus,
        )
        value, mode = objectives(evaluation, sweep)[0], sweep.mode[0]
        if loss(value, mode) < loss(best, mode):
            best, number = value, record.number
        if math.isfinite(best):
            points.append(Point(max(0.0, time - began), steps_used, hours_used, gpu_hours_used, best, number))
    return points


@dataclass(frozen=True)
class Savings:
    """What the trials that a scheduler stopped did not use.

    Args:
        trials: how many were stopped.
        steps: optimizer steps that they had left.
        used_steps: optimizer steps that all trials of the sweep trained.
        hours: trial-hours that those steps would have taken, at each trial's own pace.
        gpu_hours: the same in GPU-hours.
        unknown: how many of the stopped are not counted, as their steps in all or their pace is not known.
    """

    trials: int
    steps: int
    used_steps: int
    hours: float
    gpu_hours: float
    unknown: int = 0

    @property
    def share(self) -> float:
        """Of the steps that all would have taken, those that were spared."""
        return self.steps / (self.steps + self.used_steps) if self.steps else 0.0


def savings(trials: Sequence[Trial]) -> Savings:
    """Add up what early stopping spared; a trial that a budget ended counts as used, not as spared."""
    stopped = [t.record for t in trials if t.end and t.end.state == "stopped" and t.end.reason not in BUDGETS]
    steps, hours, gpu_hours, unknown = 0, 0.0, 0.0, 0
    for record in stopped:
        trained = sum(trained_steps(record))
        if not record.max_steps or not trained:
            unknown += 1
            continue
        left = max(0, record.max_steps - record.history[-1].step)
        spared = left * record.seconds / trained / 3600
        steps, hours, gpu_hours = steps + left, hours + spared, gpu_hours + spared * record.gpus
    used = sum(sum(trained_steps(trial.record)) for trial in trials)
    return Savings(len(stopped), steps, used, hours, gpu_hours, unknown)

"""What a sweep and its trials record of themselves; :mod:`raytrainer.sweep.record_files` writes and reads it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a trial.

    Args:
        step: optimizer steps done.
        epoch: epochs done, None where the trainer has none.
        time: when, in seconds since the Unix epoch.
        seconds: since the trial began.
        metrics: as transformers names them.
    """

    step: int
    epoch: float | None
    time: float
    seconds: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Change:
    """Other values for a trial that goes on, most often with the weights of a better one.

    Args:
        step: optimizer steps done when it happened.
        values: what is trained with from here on, by key.
        donor: id of the trial that the weights come from, None where it kept its own; ``from`` in the file.
        donor_number: that trial's number; ``from_number`` in the file.
    """

    step: int
    values: dict[str, Any]
    donor: str | None = None
    donor_number: int | None = None


@dataclass(frozen=True)
class TrialRecord:
    """trial.json: what a trial is, and how far it came.

    Args:
        id: Ray Tune's name for it.
        number: from 1, in order of creation.
        origin: where its values come from: ``default``, ``known``, ``random``, ``grid`` or ``model``.
        group: what repeats of one configuration share, None without repeats.
        sampled: what the searcher drew, by key.
        values: the same, completed: with expressions, without what does not apply.
        arguments: the TrainingArguments that a worker really used.
        max_steps: optimizer steps of a trial that is not stopped, 0 where that is not known.
        workers: how many train it.
        gpus: of all its workers together.
        began: when, in seconds since the Unix epoch.
        seconds: wall time so far, over all attempts.
        attempts: how often it was started.
        history: its evaluations, oldest first.
        changes: of its values while it trained, oldest first.
    """

    id: str
    number: int
    origin: str
    group: int | None = None
    sampled: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    max_steps: int = 0
    workers: int = 1
    gpus: float = 0.0
    began: float = 0.0
    seconds: float = 0.0
    attempts: int = 1
    history: tuple[Evaluation, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class End:
    """end.json: how a trial ended; there is none while it runs.

    Args:
        state: ``finished``, ``stopped``, ``failed`` or ``interrupted``.
        reason: who stopped it (``asha``), or why.
        error: the last lines of what broke it.
    """

    state: str
    reason: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class SweepRecord:
    """sweep.json: what was asked for, and how the sweep ended.

    Args:
        name: the sweep's.
        metric: the objectives, one or several.
        mode: ``min`` or ``max`` for each of them.
        scope: which evaluation of a trial counts, ``last`` or ``best``.
        search: the searcher's name, to its options.
        scheduler: the scheduler's name, to its options.
        seed: of the sweep.
        repeats: trials of one configuration.
        began: when, in seconds since the Unix epoch.
        resumed: when it last went on, the same; None before.
        earlier: seconds that it had run until then.
        ended: when, None while it runs.
        state: ``running``, ``finished``, ``interrupted`` or ``failed``; one whose driver was killed says ``running``.
        stopped_by: what ended it before its last trial: ``time``, ``gpu_hours``, ``patience``, ``failures``; or None.
        space: how the config spells each key's range.
        concurrency: trials at a time, 0 where that is not known.
    """

    name: str
    metric: list[str]
    mode: list[str]
    scope: str = "last"
    search: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    repeats: int = 1
    began: float = 0.0
    resumed: float | None = None
    earlier: float = 0.0
    ended: float | None = None
    state: str = "running"
    stopped_by: str | None = None
    space: dict[str, str] = field(default_factory=dict)
    concurrency: int = 0


@dataclass(frozen=True)
class Trial:
    """A trial's folder, read.

    Args:
        record: its trial.json; only the number is known where that cannot be read.
        end: its end.json, None while there is none.
        checkpoints: the steps that it has checkpoints of.
        damage: why trial.json cannot be read, None where it can.
    """

    record: TrialRecord
    end: End | None = None
    checkpoints: tuple[int, ...] = ()
    damage: str | None = None

    @property
    def state(self) -> str:
        """``finished``, ``stopped``, ``failed``, ``interrupted``, ``running`` or ``unreadable``."""
        ended = None if self.end is None else self.end.state
        if self.damage is not None and ended not in ("failed", "interrupted"):
            return "unreadable"  # what it came to is lost
        return ended or "running"


def seconds_ran(sweep: SweepRecord, trials: Iterable[Trial]) -> float:
    """Return how long a sweep has run, without the time between its end and the next resume.

    Its driver may run, or have been killed; then it is until a trial was last evaluated.
    """
    began = sweep.began if sweep.resumed is None else sweep.resumed
    times = [entry.time for trial in trials for entry in trial.record.history[-1:]]
    return sweep.earlier + max(0.0, (sweep.ended or max(times, default=began)) - began)

"""Who is ahead while a sweep runs, and whose checkpoints stay."""

from __future__ import annotations

import bisect
import math
import statistics
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True)
class Stored:
    """A checkpoint of a trial that was asked for.

    Args:
        number: the trial's.
        step: optimizer steps done.
    """

    number: int
    step: int


class _Run(NamedTuple):
    """A trial of a configuration; the least is the best."""

    badness: float
    number: int


class _Place(NamedTuple):
    """Where a configuration stands; the least is ahead. Of equals the smaller number."""

    missing: int
    badness: float
    number: int
    group: int


def _key(number: int, group: int | None) -> int:
    """Return the name of a trial's configuration: without repeats it has one of its own."""
    return -number if group is None else group


@dataclass
class Standings:
    """Driver: the trials' scores, and the checkpoints that are kept for them.

    Args:
        mode: ``min`` or ``max``: what is better.
        scope: ``last``: a trial's last evaluation is its score; ``best``: its best one.
        keep: how many trials' checkpoints stay, the best ones'; of repeats of one configuration the best run's.
        repeats: how many trials a configuration has.

    Attributes:
        scores: each trial's so far, by number; none for a trial that has no evaluation that counts.
        without_better: configurations that ended, with all their repeats, since the last one that was ahead then.
    """

    mode: str
    scope: str
    keep: int
    repeats: int = 1
    scores: dict[int, float] = field(default_factory=dict)
    without_better: int = 0
    # Kept in order, both: a sweep of thousands of trials cannot sort them all at every evaluation.
    _runs: dict[int, list[_Run]] = field(default_factory=dict)
    _ranking: list[_Place] = field(default_factory=list)
    _kept: dict[int, Stored] = field(default_factory=dict)
    _newest: dict[int, list[Stored]] = field(default_factory=dict)
    _ended: dict[int, set[int]] = field(default_factory=dict)
    _stored: set[Stored] = field(default_factory=set)
    _over: bool = False

    def counts(self, number: int, score: float, last: bool, group: int | None = None) -> bool:
        """Take an evaluation's score into account.

        Args:
            number: the trial's.
            score: the metric's value.
            last: whether the trial ends with this evaluation.
            group: what the repeats of its configuration share, None without repeats.

        Returns:
            Whether a checkpoint of this moment is one of the best.
        """
        if not math.isfinite(score) or (self.scope == "last" and not last):
            return False
        before = self.scores.get(number)
        if self.scope == "best" and before is not None and not self.better(score, before):
            return False
        self._rank(_Run(self._badness(score), number), _key(number, group))
        self.scores[number] = score
        return self.keep > 0 and number in self._to_keep()

    def better(self, score: float, other: float) -> bool:
        """Tell whether a score is better than another."""
        return score > other if self.mode == "max" else score < other

    def best(self) -> int | None:
        """Return the number of the trial that is ahead, None before any counts."""
        return self._best_of(self._ranking[0]) if self._ranking else None

    def _badness(self, score: float) -> float:
        return -score if self.mode == "max" else score

    def _rank(self, run: _Run, group: int) -> None:
        """Put a run, and the configuration it is of, in its place; in the order that the results have."""
        runs = self._runs.setdefault(group, [])
        if runs:
            del self._ranking[bisect.bisect_left(self._ranking, self._place(group))]
        if run.number in self.scores:
            runs.remove(_Run(self._badness(self.scores[run.number]), run.number))
        bisect.insort(runs, run)
        bisect.insort(self._ranking, self._place(group))

    def _place(self, group: int) -> _Place:
        """Return where a configuration stands: by its mean, and behind where it has fewer runs than it will."""
        runs = self._runs[group]
        missing = max(0, self.repeats - len(runs)) if group >= 0 else 0
        return _Place(missing, statistics.fmean(run.badness for run in runs), min(run.number for run in runs), group)

    def _best_of(self, place: _Place) -> int:
        return self._runs[place.group][0].number

    def _to_keep(self) -> set[int]:
        """Return the trials whose checkpoints stay: the best ones', and those of configurations that may yet win."""
        ahead = self._ranking[: self.keep]
        if not self._over:
            ahead += self._ranking[bisect.bisect_left(self._ranking, 1, key=lambda place: place.missing) :]
        return {self._best_of(place) for place in ahead}

    def stored(self, checkpoint: Stored, best: bool) -> list[Stored]:
        """Take a new checkpoint into account.

        Args:
            checkpoint: what is in the storage now.
            best: whether it was asked for because it is one of the best.

        Returns:
            The checkpoints that nobody needs any more.
        """
        self._stored.add(checkpoint)
        if best:
            self._kept[checkpoint.number] = checkpoint
        # A clone may still be fetching the one before.
        self._newest[checkpoint.number] = [*self._newest.get(checkpoint.number, []), checkpoint][-2:]
        return self._unneeded()

    def ended(self, number: int, group: int | None = None) -> list[Stored]:
        """Take into account that a trial goes on no more.

        Args:
            number: the trial's.
            group: as in ``counts``.

        Returns:
            The checkpoints that nobody needs any more.
        """
        self._newest.pop(number, None)
        runs = self._ended.setdefault(key := _key(number, group), set())
        # One that had ended when the driver died may be told of twice.
        if number not in runs:
            runs.add(number)
            if group is None or len(runs) == self.repeats:
                ahead = bool(self._ranking) and self._ranking[0].group == key
                self.without_better = 0 if ahead else self.without_better + 1
        return self._unneeded()

    def over(self) -> list[Stored]:
        """Return the checkpoints that nobody needs when the sweep has ended."""
        self._newest.clear()
        self._over = True
        return self._unneeded()

    def needed(self) -> set[Stored]:
        """Return the checkpoints that stay for now."""
        best = {self._kept[number] for number in self._to_keep() if number in self._kept}
        return best | {checkpoint for newest in self._newest.values() for checkpoint in newest}

    def _unneeded(self) -> list[Stored]:
        needed = self.needed()
        unneeded = self._stored - needed
        self._stored &= needed
        return sorted(unneeded, key=lambda stored: (stored.number, stored.step))

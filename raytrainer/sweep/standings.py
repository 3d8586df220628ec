"""Who is ahead while a sweep runs, and whose checkpoints stay."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stored:
    """A checkpoint of a trial that was asked for.

    Args:
        number: the trial's.
        step: optimizer steps done.
    """

    number: int
    step: int


@dataclass
class Standings:
    """Driver: the trials' scores, and the checkpoints that are kept for them.

    Args:
        mode: ``min`` or ``max``: what is better.
        scope: ``last``: a trial's last evaluation is its score; ``best``: its best one.
        keep: how many trials' checkpoints stay, the best ones'; of repeats of one configuration the best run's.
        repeats: how many trials a configuration has.
        scores: each trial's so far, by number; none for a trial that has no evaluation that counts.
    """

    mode: str
    scope: str
    keep: int
    repeats: int = 1
    scores: dict[int, float] = field(default_factory=dict)
    _groups: dict[int, int] = field(default_factory=dict)
    _kept: dict[int, Stored] = field(default_factory=dict)
    _newest: dict[int, list[Stored]] = field(default_factory=dict)
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
        self.scores[number] = score
        self._groups[number] = -number if group is None else group
        return self.keep > 0 and number in self._to_keep()

    def better(self, score: float, other: float) -> bool:
        """Tell whether a score is better than another."""
        return score > other if self.mode == "max" else score < other

    def best(self) -> int | None:
        """Return the number of the trial that is ahead, None before any counts."""
        return next((members[0] for members in self._ranked()), None)

    def _ranked(self) -> list[list[int]]:
        """Return the configurations' trials, best first, in the order that the results have.

        A configuration's place is its mean's, and those with fewer runs stand behind; of equals the smaller number.
        """
        sign = -1 if self.mode == "max" else 1
        groups: dict[int, list[int]] = {}
        for number in sorted(self.scores, key=lambda number: (sign * self.scores[number], number)):
            groups.setdefault(self._groups[number], []).append(number)

        def place(members: list[int]) -> tuple[int, float, int]:
            mean = statistics.fmean(self.scores[number] for number in members)
            return self._missing(members), sign * mean, min(members)

        return sorted(groups.values(), key=place)

    def _missing(self, members: list[int]) -> int:
        return max(0, self.repeats - len(members)) if self._groups[members[0]] >= 0 else 0

    def _to_keep(self) -> set[int]:
        """Return the trials whose checkpoints stay: the best ones', and those of configurations that may yet win."""
        ranked = self._ranked()
        ahead = {members[0] for members in ranked[: self.keep]}
        return ahead if self._over else ahead | {members[0] for members in ranked if self._missing(members)}

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

    def ended(self, number: int) -> list[Stored]:
        """Take into account that a trial goes on no more, and return the checkpoints that nobody needs any more."""
        self._newest.pop(number, None)
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

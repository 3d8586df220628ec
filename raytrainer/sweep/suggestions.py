"""Driver: what is tried in which order: known configurations, then those of a search algorithm, each so many times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Origin = Literal["default", "known", "random", "grid", "model"]
REPEAT, ORIGIN, GROUP = "__repeat__", "__origin__", "__group__"
"""Keys of a trial's config beside its values: which repetition of its configuration it is, from 0; where the values are
from; what the configuration's repetitions share."""


@dataclass(frozen=True)
class Goal:
    """What a search algorithm goes by.

    Args:
        metric: a trial's figure.
        mode: min or max.
        seed: same seed, same suggestions.
    """

    metric: str
    mode: str
    seed: int


@dataclass(frozen=True)
class Known:
    """A configuration that is tried whatever the search algorithm thinks.

    Args:
        values: key to value, of the whole space.
        origin: where it is from.
        inside: whether it lies in the search space, so that the search algorithm is told what it came to.
    """

    values: Mapping[str, Any]
    origin: Origin
    inside: bool


@dataclass(frozen=True)
class Suggestion:
    """The config of one trial.

    Args:
        values: key to value; ``__repeat__`` is among them where configurations are repeated.
        origin: where it is from.
        group: number of its configuration, from 1; None where none is repeated.
    """

    values: Mapping[str, Any]
    origin: Origin
    group: int | None


@dataclass
class _Group:
    """The repetitions of one configuration; the search algorithm knows the first one."""

    number: int
    first: str
    values: Mapping[str, Any]
    origin: Origin
    told: bool
    size: int
    members: list[str] = field(default_factory=list)
    scores: dict[str, dict[str, float] | None] = field(default_factory=dict)


class Model:
    """Driver: a search algorithm as ``Suggestions`` asks it. It is pickled whole when the experiment is saved."""

    origin: Origin = "model"
    """Of the last suggestion."""
    exhausted = False
    """Whether there will be no other suggestion."""
    learns = True
    """Whether it goes by what trials came to."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return what to try; None where there is nothing to say now."""
        raise NotImplementedError

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Take note of an evaluation of a trial that goes on."""

    def on_trial_complete(self, trial_id: str, result: dict[str, float] | None) -> None:
        """Take note of what a suggestion came to; None where it came to nothing."""

    def on_pause(self, trial_id: str) -> None:
        """A trial waits for others."""

    def on_unpause(self, trial_id: str) -> None:
        """A trial that waited goes on."""


class Suggestions:
    """Driver: hands out configurations, and tells the search algorithm what they came to.

    Args:
        model: the search algorithm; it has the known configurations inside the space as its first suggestions.
        known: configurations that are tried first.
        metrics: what it goes by.
        modes: min or max for each metric.
        best: whether a trial's best evaluation counts, and not its last; of several metrics the last one counts.
        repeats: how many times each configuration is tried.
        limit: trials in all.
    """

    def __init__(
        self,
        model: Model,
        known: Sequence[Known],
        metrics: Sequence[str],
        modes: Sequence[str],
        best: bool,
        repeats: int,
        limit: int,
    ) -> None:
        self.model = model
        self._known = list(known)
        self._metrics, self._modes, self._best = list(metrics), list(modes), best and len(metrics) == 1
        self._repeats, self._limit = repeats, limit
        self._made = self._configurations = 0
        self._open: _Group | None = None
        self._groups: dict[str, _Group] = {}
        self._seen: dict[str, dict[str, float]] = {}

    @property
    def limit(self) -> int:
        """Trials in all."""
        return self._limit

    def go_on_to(self, limit: int) -> None:
        """Have another number of trials in all: that of the config as it is now."""
        self._limit = limit

    def finished(self) -> bool:
        """Tell whether there is nothing more to try."""
        return self._made >= self._limit

    def next(self, id: str) -> Suggestion | None:
        """Return what a new trial tries; None at the end, and where the search algorithm has nothing to say now."""
        if self.finished():
            return None
        group = self._open or self._new_group(id)
        if group is None:
            return None
        repeat = len(group.members)
        group.members.append(id)
        self._groups[id] = group
        self._made += 1
        self._open = group if len(group.members) < group.size else None
        if self._repeats == 1:
            return Suggestion(group.values, group.origin, None)
        return Suggestion({**group.values, REPEAT: repeat}, group.origin, group.number)

    def result(self, id: str, result: Mapping[str, Any]) -> None:
        """Take note of an evaluation."""
        score = self._see(id, result)
        group = self._groups.get(id)
        if group is not None and group.told and self._repeats == 1 and score is not None:
            self.model.on_trial_result(id, dict(result))

    def complete(self, id: str, result: Mapping[str, Any] | None, error: bool) -> None:
        """Take note of a trial's end; an error's trial counts for nothing."""
        group = self._groups.pop(id, None)
        if result:
            self._see(id, result)
        score = self._seen.pop(id, None)
        if group is None:
            return
        group.scores[id] = None if error else score
        if len(group.scores) == group.size and group.told:
            self._tell(group)

    def _see(self, id: str, result: Mapping[str, Any]) -> dict[str, float] | None:
        """Return the score of an evaluation, which counts for the trial unless an earlier one is better."""
        score = self._score(result)
        if score is not None:
            if not (self._best and self._worse(score, self._seen.get(id))):
                self._seen[id] = score
        elif not self._best and all(result.get(metric) is not None for metric in self._metrics):
            self._seen.pop(id, None)  # it has diverged
        return score

    def _new_group(self, id: str) -> _Group | None:
        number, told = self._configurations, True
        if number < len(self._known):
            known = self._known[number]
            values, origin, told = known.values, known.origin, known.inside
            if told:
                self.model.suggest(id)  # the same one
        else:
            suggested = self.model.suggest(id)
            if suggested is None:
                self._limit = self._made if self.model.exhausted else self._limit
                return None
            values, origin = suggested, self.model.origin
        self._configurations += 1
        size = min(self._repeats, self._limit - self._made)
        return _Group(number + 1, id, values, origin, told, size)

    def _tell(self, group: _Group) -> None:
        scores = [score for score in group.scores.values() if score is not None]
        if not scores:
            self.model.on_trial_complete(group.first, None)
            return
        mean = {metric: sum(score[metric] for score in scores) / len(scores) for metric in self._metrics}
        self.model.on_trial_complete(group.first, mean)

    def _score(self, result: Mapping[str, Any]) -> dict[str, float] | None:
        """Return the metrics of an evaluation; None where one is missing or no number, as after a divergence."""
        score = {metric: result.get(metric) for metric in self._metrics}
        numbers = {name: float(value) for name, value in score.items() if value is not None}
        return numbers if len(numbers) == len(score) and all(map(math.isfinite, numbers.values())) else None

    def _worse(self, score: dict[str, float], than: dict[str, float] | None) -> bool:
        metric = self._metrics[0]
        return than is not None and (score[metric] > than[metric]) == (self._modes[0] == "min")

"""Which steps of its metrics a run has, so that a step that is trained again is not logged again."""

from __future__ import annotations

from collections.abc import Sequence

from raytrainer.tracking_entry import Entry

LINEAGE_TAG = "raytrainer.lineage"


class Seen:
    """For each metric the last step that a run has, by training and lineage: in each of these steps count anew.

    Args:
        entries: all of the run's record so far.

    Attributes:
        training: which training of a script goes on, from 0.
        lineage: how often the training has gone on from weights that were not its own.
    """

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self.training = self.lineage = 0
        self._over = False
        self._before: dict[str, int] = {}
        self._logged: dict[tuple[int, int], dict[str, int]] = {}
        for entry in entries:
            self.lineage = int(entry.tags.get(LINEAGE_TAG, self.lineage))
            steps = self._logged.setdefault((entry.training, self.lineage), {})
            for point in entry.points:
                steps[point.name] = max(point.step, steps.get(point.name, -1))

    def restart(self) -> None:
        """Note that the program of the workers begins, or begins again, with its first training."""
        self.training, self._over = 0, False

    def end(self) -> None:
        """Note that a training has ended: the next one counts its steps anew; until then all is of this one."""
        self._over = True

    def begin(self) -> None:
        """Note that a training begins, or begins again: what it has logged until now is not logged again."""
        self.training += self._over
        self._over = False
        self._before = dict(self._logged.get((self.training, self.lineage), {}))

    def branch(self, lineage: int) -> bool:
        """Note whose steps come from here on; returns whether they are others than before."""
        new, self.lineage = lineage != self.lineage, lineage
        if new:
            self.begin()
        return new

    def unseen(self, metrics: dict[str, float], step: int) -> dict[str, float]:
        """Return what is to be logged, and note that it is."""
        new = {name: value for name, value in metrics.items() if step > self._before.get(name, -1)}
        self._logged.setdefault((self.training, self.lineage), {}).update(dict.fromkeys(new, step))
        return new

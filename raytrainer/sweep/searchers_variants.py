"""Driver: random search and grids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.tune.search.variant_generator import generate_variants

from raytrainer.sweep.numbers import plain
from raytrainer.sweep.suggestions import Known, Model

if TYPE_CHECKING:
    from raytrainer.sweep.space import Space


class Variants(Model):
    """Driver: samples of a space without end; each sample with every combination of its grids.

    Args:
        space: the search space.
        seed: same seed, same samples.
        known: what is tried first; it is no part of the samples.
        constant_grid_search: whether all combinations of the grids share what is sampled.
    """

    learns = False

    def __init__(
        self, space: Space, seed: int, known: Sequence[Known] = (), constant_grid_search: bool = False
    ) -> None:
        self.origin = "grid" if space.grid_size > 1 else "random"
        self._space = space
        self._rng = np.random.RandomState(seed)
        self._constant = constant_grid_search
        self._ready: list[dict[str, Any]] = []
        self._first = sum(point.inside for point in known)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        if self._first:
            self._first -= 1
            return {}
        if not self._ready:
            self._ready = list(sampled(self._space, self._rng, self._constant))
        return self._ready.pop(0)


def sampled(space: Space, rng: np.random.RandomState, constant: bool = False) -> Iterator[dict[str, Any]]:
    """Yield one sample of a space; with grids, one for each of their combinations."""
    spec = {"config": space.domains()}
    for _, variant in generate_variants(spec, constant_grid_search=constant, random_state=rng):
        yield space.clamp(plain(variant["config"]))

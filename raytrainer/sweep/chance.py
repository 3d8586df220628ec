"""Driver: random numbers of one's own, for code that draws from the process's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class Chance:
    """The state of Python's and numpy's global random numbers, for one user of them.

    Ray's schedulers and hpbandster draw from the process's own: what they draw would depend on whatever else draws.

    Args:
        seed: same seed, same numbers.
    """

    def __init__(self, seed: int) -> None:
        self._states: tuple[Any, Any] = (random.Random(seed).getstate(), np.random.RandomState(seed).get_state())
        self._drawing = False

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Let what runs inside draw from here; the process's own numbers are as they were afterwards."""
        if self._drawing:
            yield
            return
        outside = (random.getstate(), np.random.get_state())
        random.setstate(self._states[0])
        np.random.set_state(self._states[1])
        self._drawing = True
        try:
            yield
        finally:
            self._drawing = False
            self._states = (random.getstate(), np.random.get_state())
            random.setstate(outside[0])
            np.random.set_state(outside[1])

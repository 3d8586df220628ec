"""A setting that a sweep samples, and the values that it can take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

When = Mapping[str, tuple[Any, ...]]
"""Other keys, and the values of each with which something is there."""


@dataclass(frozen=True)
class Parameter:
    """A setting that is sampled.

    Args:
        key: the setting, with dots.
        kind: one of ``KINDS``.
        values: of a choice or a grid, what there is to choose from.
        bounds: of everything else, the two numbers as they are written; of normal ones mean and standard deviation.
        quantum: of quantised ones, the step.
        when: the condition under which it is there.
    """

    key: str
    kind: str
    values: tuple[Any, ...] = ()
    bounds: tuple[float, float] | None = None
    quantum: float | None = None
    when: When = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.kind.endswith("randint")

    @property
    def normal(self) -> bool:
        """Whether its values have no bounds."""
        return self.kind.endswith("normal")

    @property
    def ends(self) -> tuple[Any, Any]:
        """The lowest and the highest value; of a list the first and the last; of normal ones 3 deviations away."""
        if self.bounds is None:
            return self.values[0], self.values[-1]
        low, high = self.bounds
        if self.normal:
            mean, deviation = self.bounds
            low, high = (float(f"{mean + times * deviation:.12g}") for times in (-3, 3))
        elif self.kind in ("randint", "lograndint"):
            high -= 1
        if self.quantum is None:
            return self._typed(low), self._typed(high)
        first, last = low / self.quantum, high / self.quantum
        if self.normal:
            first, last = math.floor(first), math.ceil(last)
        else:  # A bound that is a multiple up to the rounding of floats is one.
            first, last = math.ceil(first - 1e-9), math.floor(last + 1e-9)
        return self._multiple(first), self._multiple(last)

    def clamped(self, value: Any) -> Any:
        """Return the nearest value that it can take."""
        value = _of_python(value)
        if self.bounds is None:
            return self._nearest(value)
        low, high = self.ends
        value = self._typed(value)
        return value if self.normal else min(max(value, low), high)

    def plain(self, value: Any) -> Any:
        """Return a sampled value as a config has it: searchers hand out numpy's numbers, and 3.0 for 3."""
        value = _of_python(value)
        if self.bounds is None:
            return next((choice for choice in self.values if same(value, choice)), value)
        return self._typed(value)

    def takes(self, value: Any) -> bool:
        """Tell whether it can take a value."""
        if self.bounds is None:
            return any(same(value, choice) for choice in self.values)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return same(value, self.clamped(value)) and not (self.whole and isinstance(value, float))

    def _nearest(self, value: Any) -> Any:
        for choice in self.values:
            if same(value, choice):
                return choice
        numbers = [choice for choice in self.values if is_number(choice)]
        return min(numbers, key=lambda choice: abs(choice - value)) if is_number(value) and numbers else self.values[0]

    def _typed(self, value: float) -> float:
        if self.quantum is not None:
            return self._multiple(round(value / self.quantum))
        return round(value) if self.whole else float(value)

    def _multiple(self, times: int) -> float:
        # In decimals: 3 * 0.1 is 0.3, and Optuna finds that the step fits between the bounds.
        exact = Decimal(str(self.quantum)) * times
        return int(exact) if self.whole else float(exact)


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same, as a config sees it: 1 and 1.0 are, 1 and true are not."""
    if is_number(one) and is_number(other):
        return math.isclose(one, other, rel_tol=1e-12)
    return type(one) is type(other) and bool(one == other)


def _of_python(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def is_number(value: Any) -> bool:
    """Tell whether a value is a number, as a config sees it: true is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)

"""What a trial trains with, in the two forms in which transformers hands it to ``model_init`` and ``hp_name``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytrainer.errors import ArgumentsError, Problem, unknown_name


class TrialValues(dict[str, Any]):
    """A trial's values: a dictionary as Ray Tune's, with what of an Optuna trial can be had when it is drawn already.

    Args:
        values: name to value.
        number: the trial's, from 1.

    Attributes:
        number: the trial's, from 1.
    """

    def __init__(self, values: Mapping[str, Any], number: int) -> None:
        super().__init__(values)
        self.number = number

    @property
    def params(self) -> dict[str, Any]:
        """The values, as Optuna's trials call them."""
        return dict(self)

    def suggest_categorical(self, name: str, *range_: Any, **options: Any) -> Any:
        """Return the value that ``hp_space`` drew."""
        if name not in self:
            fix = f"{unknown_name(name, list(self))}, or {name!r} in hp_space, too"
            raise ArgumentsError(Problem("model_init", name, "hp_space has no such name, and it draws the values", fix))
        return self[name]

    suggest_float = suggest_int = suggest_categorical

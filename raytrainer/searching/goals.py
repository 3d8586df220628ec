"""What a search goes by: one figure or several, each to be as small or as large as can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from transformers.trainer_utils import default_compute_objective

from raytrainer.errors import ArgumentsError, Problem

_MODES = {"minimize": "min", "maximize": "max"}


@dataclass(frozen=True)
class Goals:
    """What a search goes by. It travels to the trials.

    Args:
        compute: the user's function, of an evaluation's metrics.
        modes: min or max for each figure.
        several: whether the user named a list of directions.
    """

    compute: Callable[[dict[str, float]], Any]
    modes: tuple[str, ...]
    several: bool

    @classmethod
    def of(cls, compute_objective: Any, direction: Any) -> Goals:
        """Read what the user asked for.

        Raises:
            ArgumentsError: it is no direction, or the objective cannot be computed.
        """
        several = isinstance(direction, list | tuple)
        for one in direction if several else [direction]:
            if one not in _MODES:
                _refuse("direction", direction, "it is no direction", "'minimize' or 'maximize', or a list of these")
        if several and not direction:
            _refuse("direction", direction, "it is empty", "'minimize' or 'maximize'")
        if compute_objective is not None and not callable(compute_objective):
            reason, fix = "it cannot be called", "a function of the metrics: lambda metrics: metrics['eval_accuracy']"
            _refuse("compute_objective", compute_objective, reason, fix)
        if several and len(direction) > 1 and compute_objective is None:
            reason = f"transformers' default is one figure, and direction names {len(direction)}"
            _refuse("compute_objective", None, reason, "a function that returns a list of as many figures")
        modes = tuple(_MODES[one] for one in (direction if several else [direction]))
        return cls(compute_objective or default_compute_objective, modes, several)

    @property
    def metrics(self) -> list[str]:
        """What the figures are called among an evaluation's metrics."""
        return [f"objective_{number}" for number, _ in enumerate(self.modes, 1)] if self.several else ["objective"]

    def figures(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Compute the figures of an evaluation.

        Raises:
            ArgumentsError: the user's function does not return as many numbers as there are directions.
        """
        objective = self.compute(dict(metrics))
        figures = list(objective) if self.several and isinstance(objective, list | tuple) else [objective]
        try:
            numbers = [float(figure) for figure in figures]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) != len(self.modes):
            wanted = "a number" if not self.several else f"a list of {len(self.modes)} numbers"
            _refuse("compute_objective", objective, f"it is not {wanted}, as direction has it", f"return {wanted}")
        return dict(zip(self.metrics, numbers, strict=True))

    def check(self, setting: str, name: str, metric: Any, mode: Any, free: bool = False) -> None:
        """Hold a metric and a mode that the user gave to something of Ray Tune's against the direction.

        Args:
            setting: where they were given.
            name: to what.
            metric: the metric, None where it follows.
            mode: min or max, None where it follows.
            free: whether it may go by another metric.

        Raises:
            ArgumentsError: they do not go together.
        """
        if metric is not None and metric not in self.metrics:
            if free:
                return
            fix = f"{name}(metric={self.metrics[0]!r}), or no metric"
            _refuse(setting, metric, "the search goes by what compute_objective returns", fix)
        at = self.metrics.index(metric) if metric else 0
        if mode is not None and mode != self.modes[at]:
            fix = f"mode={self.modes[at]!r}, or no mode"
            _refuse(setting, mode, f"direction says the opposite: {self.modes[at]}", fix)


def _refuse(setting: str, value: object, reason: str, fix: str) -> NoReturn:
    raise ArgumentsError(Problem(setting, value, reason, fix))

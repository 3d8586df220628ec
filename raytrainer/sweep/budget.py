"""When a sweep has had enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ray.tune import Stopper

# Where so many trials have failed, and no other trial was ever evaluated, the next one will fail, too.
_FAILURES = 5


@dataclass
class Budget(Stopper):
    """Driver: ends a sweep that has used what it may use.

    Args:
        seconds: wall time of the whole sweep.
        gpu_hours: over all trials.
        patience: configurations that may end one after the other, with all their repeats, without a better score.
        before: seconds that the sweep had run before it was resumed.
        clock: seconds, never going back.

    Attributes:
        worked: whether any trial has been evaluated.
        failed: trials that failed.
        spent: GPU-seconds of each trial, by number.
        without_better: configurations that ended since the best score was last improved on.
        exhausted: what was used up: ``time``, ``gpu_hours`` or ``patience``; ``failures`` where none but failed
            trials came; None where there is something left.
    """

    seconds: float | None = None
    gpu_hours: float | None = None
    patience: int | None = None
    before: float = 0.0
    clock: Callable[[], float] = time.monotonic
    spent: dict[int, float] = field(default_factory=dict)
    worked: bool = False
    failed: int = 0
    without_better: int = 0
    exhausted: str | None = None

    def __post_init__(self) -> None:
        self._began = self.clock()

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        """Return False: a trial by itself is not stopped."""
        return False

    def elapsed(self) -> float:
        """Return the seconds that the sweep has run."""
        return self.before + self.clock() - self._began

    def stop_all(self) -> bool:
        """Tell Ray Tune whether to end."""
        if self.seconds is not None and self.elapsed() >= self.seconds:
            self.exhausted = "time"
        elif self.gpu_hours is not None and sum(self.spent.values()) >= self.gpu_hours * 3600:
            self.exhausted = "gpu_hours"
        elif self.patience is not None and self.without_better >= self.patience:
            self.exhausted = "patience"
        elif not self.worked and self.failed >= _FAILURES:
            self.exhausted = "failures"
        return self.exhausted is not None

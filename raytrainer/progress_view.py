"""The state of a run in one line of text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """The present state of a run in the few words that fit on one line.

    Args:
        status: what goes on before the first log.
        step: optimizer steps done.
        max_steps: optimizer steps in all, 0 in an evaluation or a prediction.
        epoch: epochs done.
        loss: the last training loss.
        rate: training examples a second.
        finish: when the last step is expected, by the clock of the caller.
    """

    status: str
    step: int = 0
    max_steps: int = 0
    epoch: float | None = None
    loss: float | None = None
    rate: float | None = None
    finish: float | None = None

    def position(self) -> str:
        """Say how far the run is.

        Returns:
            For example ``step 120/600``, empty without steps.
        """
        if self.max_steps:
            return f"step {self.step}/{self.max_steps}"
        return f"step {self.step}" if self.step else ""

    def line(self, now: float) -> str:
        """Put everything known on one line.

        Args:
            now: the present time, by the clock that set ``finish``.

        Returns:
            For example ``step 120/600  epoch 0.96  loss 0.4132  212 samples/s  ETA 0:45``.
        """
        parts = [self.position(), self.status]
        if self.epoch is not None:
            parts.append(f"epoch {self.epoch:.2f}")
        if self.loss is not None:
            parts.append(f"loss {number(self.loss)}")
        if self.rate is not None:
            parts.append(f"{self.rate:.0f} samples/s" if self.rate >= 100 else f"{self.rate:.3g} samples/s")
        if self.finish is not None:
            parts.append(f"ETA {duration(max(0.0, self.finish - now))}")
        return "  ".join(part for part in parts if part)


def number(value: float) -> str:
    """Write a metric in four digits, or as a whole number where it is large."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Write seconds as ``0:45`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

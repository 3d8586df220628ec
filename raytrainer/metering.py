"""Worker: how fast a training goes, and what memory it takes."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import Trainer

_KIBIBYTE = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Reading:
    """What a training did since the last reading; the fields are those of ``Logged``."""

    samples_per_second: float | None = None
    tokens_per_second: float | None = None
    memory_peak_bytes: int | None = None


class Meter:
    """Worker: counts what a trainer trains on. It looks at shapes only, which cost nothing and wait for no GPU.

    Args:
        trainer: the trainer; its ``get_batch_samples`` is counted from now on.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._world_size = trainer.args.world_size
        self._batch_size = self._tokens = 0
        self._last_step, self._last_time = 0, 0.0
        trainer.get_batch_samples = self._counted(trainer.get_batch_samples)  # type: ignore[method-assign]  # put in the place of it

    def begin(self, step: int, batch_size: int) -> None:
        """Begin with a training.

        Args:
            step: optimizer steps done.
            batch_size: examples an optimizer step, over all workers and accumulation.
        """
        self._batch_size = batch_size
        if torch.cuda.is_initialized():
            # A process that is used again would tell the peak of what it did before.
            torch.cuda.reset_peak_memory_stats()
        self.skip(step)

    def skip(self, step: int) -> None:
        """Leave out the time until now: an evaluation is not the training's speed."""
        self._last_step, self._last_time, self._tokens = step, time.monotonic(), 0

    def read(self, step: int) -> Reading:
        """Return what was done since the last reading; the other workers read as many tokens as this one."""
        steps, seconds, tokens = step - self._last_step, time.monotonic() - self._last_time, self._tokens
        self.skip(step)
        if steps <= 0 or seconds <= 0:
            return Reading()
        pace = tokens * self._world_size / seconds if tokens else None
        return Reading(steps * self._batch_size / seconds, pace, _memory_peak())

    def _counted(self, get: Callable[..., Any]) -> Callable[..., Any]:
        def get_batch_samples(*args: Any, **kwargs: Any) -> Any:
            samples, items = get(*args, **kwargs)
            for batch in samples:
                ids = batch.get("input_ids") if hasattr(batch, "get") else None
                self._tokens += ids.numel() if isinstance(ids, torch.Tensor) else 0
            return samples, items

        return get_batch_samples


def _memory_peak() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIBIBYTE

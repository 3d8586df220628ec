"""A training that is one trial of a sweep: after every evaluation it waits for word whether it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from transformers import Trainer

from raytrainer.events import Evaluated
from raytrainer.plain import only_numbers
from raytrainer.wire import Verdict, Wire


class Halted(Exception):
    """The sweep needs no more of this trial."""


class Pacing:
    """Worker, every rank: asks after every evaluation, and after a checkpoint that was asked for, what to do.

    Args:
        trainer: the trainer that it belongs to.
        wire: to the trial.
        attempt: name of this attempt, the same on all ranks and in no other attempt.

    Attributes:
        saving: whether the next save was asked for.
    """

    def __init__(self, trainer: Trainer, wire: Wire, attempt: str) -> None:
        self.saving = False
        self._trainer, self._wire, self._attempt = trainer, wire, attempt
        self._asked = 0
        self._metrics: dict[str, float] = {}
        # transformers calls it right after an evaluation, with the metrics of all evaluation sets, and before it looks
        # whether to save.
        trainer._determine_best_metric = self._then_ask(trainer._determine_best_metric)  # type: ignore[method-assign]  # put in the place of it

    def saved(self, address: str) -> None:
        """Say that the checkpoint that was asked for is in the store, and wait.

        Raises:
            Halted: the trial shall end.
        """
        self.saving = False
        self._ask(address)

    def _then_ask(self, determine: Callable[..., bool]) -> Callable[..., bool]:
        def determined(metrics: dict[str, float], trial: Any) -> bool:
            best = determine(metrics=metrics, trial=trial)
            self._metrics = only_numbers(metrics)
            self._ask(None)
            self._trainer.control.should_save |= self.saving
            # With save_strategy="best" what is returned decides.
            return best or self.saving

        return determined

    def _ask(self, checkpoint: str | None) -> None:
        state, last = self._trainer.state, self._trainer.control.should_training_stop
        verdict = None
        if state.is_world_process_zero:
            verdict = self._wire.judge(
                Evaluated(state.global_step, state.max_steps, state.epoch, self._metrics, time.time(), checkpoint, last)
            )
        self._asked += 1
        args = self._trainer.args
        key = f"{self._attempt}/verdict/{self._asked}"
        verdict = self._wire.share(key, verdict, args.process_index, args.world_size)
        if verdict is Verdict.STOP:
            raise Halted
        self.saving = verdict is Verdict.SAVE

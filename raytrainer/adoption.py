"""A training that goes on from a checkpoint with other training arguments, as a clone of population-based training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from transformers import Trainer, TrainerState

from raytrainer.errors import ArgumentsError, Problem
from raytrainer.mutation import adopted, changes_optimizer, groups_of, keeps_moments, without_effect
from raytrainer.outbox import Outbox
from raytrainer.rescheduling import move


class Adoption:
    """Worker, every rank: the arguments given count; the checkpoint gives weights, moments and position.

    transformers restores learning rate, weight decay and the rest with optimizer and scheduler, the steps between
    evaluations with its state. What is not of the arguments stays the checkpoint's: dropout is the model's
    configuration, random numbers go on, and so do callbacks' attributes and the log.

    The position is the number of optimizer steps. With another global batch size it is another place in the data, and
    where epochs are counted, another number of steps in all.

    Args:
        trainer: the trainer that it belongs to, before it trains.
        before: what the checkpoint's manifest says that was trained (``meaning``); empty where it has none.
        now: the same of the trainer.
        another: whether another run made the checkpoint: then its best metric is no achievement of this one.
        outbox: the way to the driver.

    Raises:
        ArgumentsError: this cannot be adopted.
    """

    def __init__(
        self, trainer: Trainer, before: dict[str, Any], now: dict[str, Any], another: bool, outbox: Outbox
    ) -> None:
        self._trainer, self._another, self._outbox = trainer, another, outbox
        self._before, self._now = before.get("arguments", {}), now["arguments"]
        batch = now["order"]["global batch"]
        self._moved = before.get("order", {}).get("global batch", batch) != batch
        problems = self._problems()
        if problems:
            raise ArgumentsError(*problems)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Adopt what the arguments say when the checkpoint is loaded, while ``train`` runs inside the block."""
        trainer, load = self._trainer, self._trainer._load_optimizer_and_scheduler
        trainer._load_optimizer_and_scheduler = lambda checkpoint: self._load(load, checkpoint)  # type: ignore[method-assign]  # put in the place of it
        try:
            yield
        finally:
            trainer._load_optimizer_and_scheduler = load  # type: ignore[method-assign]  # put in the place of it

    def begin(self, state: TrainerState) -> None:
        """Mend the state that transformers has read; call it when training begins."""
        trainer = self._trainer
        state.train_batch_size = trainer._train_batch_size
        state.compute_steps(trainer.args, state.max_steps)
        if self._another:
            state.best_metric = state.best_global_step = state.best_model_checkpoint = None
        if self._moved:
            loader: Any = trainer.callback_handler.train_dataloader
            state.epoch = state.global_step / trainer.set_initial_training_values(trainer.args, loader)[1]

    def _load(self, load: Any, checkpoint: str | None) -> None:
        trainer: Any = self._trainer
        if checkpoint is None:
            return
        optimizer: Any = getattr(trainer.optimizer, "optimizer", trainer.optimizer)  # accelerate's holds it
        scheduler, taken = trainer.lr_scheduler, _Taken()
        fresh, restore = groups_of(optimizer), optimizer.load_state_dict
        saved: list[dict[str, Any]] = []

        def restore_moments(state_dict: dict[str, Any]) -> None:
            saved.extend(state_dict["param_groups"])
            if keeps_moments(saved, optimizer, self._before, self._now):
                restore({**state_dict, "param_groups": adopted(saved, fresh, optimizer)})
            else:
                self._outbox.warn(f"moments begin anew: the checkpoint's are not those of {type(optimizer).__name__}")

        trainer.lr_scheduler, vars(optimizer)["load_state_dict"] = taken, restore_moments
        try:
            load(checkpoint)
        finally:
            trainer.lr_scheduler = scheduler
            del vars(optimizer)["load_state_dict"]
        if taken.state is None:
            self._outbox.warn("moments begin anew: the checkpoint has no optimizer")
        elif note := self._unreached(saved, fresh):
            self._outbox.warn(note)
        old, new = self._before.get("learning_rate"), self._now["learning_rate"]
        if told := move(scheduler, taken.state, trainer.state.global_step, new / old if old else None):
            self._outbox.warn(told)

    def _unreached(self, saved: list[dict[str, Any]], fresh: list[dict[str, Any]]) -> str:
        found = without_effect(self._before, self._now, saved, fresh)
        parts = [f"{name}={self._now[name]!r} has no effect: its groups have {has!r}" for name, has in found.items()]
        return f"the optimizer is the program's own, or takes no such argument: {'; '.join(parts)}" if parts else ""

    def _problems(self) -> list[Problem]:
        trainer, found = self._trainer, []
        if trainer.is_deepspeed_enabled:
            reason = "DeepSpeed restores its optimizer and schedule, and other training arguments would be ignored"
            found.append(
                Problem("deepspeed", trainer.args.deepspeed, reason, "DDP or FSDP for population-based training")
            )
        if trainer.args.auto_find_batch_size and self._moved:
            reason = "it takes the batch size from the checkpoint, and the one given would be ignored"
            found.append(Problem("auto_find_batch_size", True, reason, "auto_find_batch_size=False"))
        if trainer.is_fsdp_enabled and changes_optimizer(self._before, self._now):
            reason = f"the checkpoint has the moments of {self._before['optim']!r}, which FSDP cannot leave out"
            found.append(Problem("optim", self._now["optim"], reason, f"optim={self._before['optim']!r}"))
        return found


class _Taken:
    """Stands in for a scheduler while a checkpoint is loaded."""

    def __init__(self) -> None:
        self.state: dict[str, Any] | None = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.state = state_dict

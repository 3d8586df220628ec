"""What a rank tells the outside: logs to the driver from rank 0, evaluations and saves to Ray Train from all."""

from __future__ import annotations

import math
import numbers
import time
from typing import Any

import ray.train
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.training_args import ParallelMode

from raytrainer.errors import TrainingFailed
from raytrainer.events import Began, Logged
from raytrainer.outbox import Outbox


class ReportingCallback(TrainerCallback):
    """Worker, every rank: turns transformers' logs, evaluations and saves into events and Ray Train reports.

    ``ray.train.report`` is a barrier, so it is called where transformers calls back on every rank equally often:
    once an evaluation and once a save. Logs go to the driver alone, from rank 0, and cost the step no waiting.

    Args:
        trainer: the trainer that it belongs to.
        outbox: the way to the driver.
        precision: name of the precision that was chosen.
    """

    def __init__(self, trainer: Trainer, outbox: Outbox, precision: str) -> None:
        self._trainer, self._outbox, self._precision = trainer, outbox, precision
        self._batch_size = 0
        self._last_step, self._last_time = 0, 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._assert_synchronised(args)
        self._batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self._last_step, self._last_time = state.global_step, time.monotonic()
        config: Any = getattr(kwargs.get("model"), "config", None)
        self._outbox.send(
            Began(
                step=state.global_step,
                max_steps=state.max_steps,
                world_size=args.world_size,
                batch_size=self._batch_size,
                precision=self._precision,
                arguments=plain(args.to_sanitized_dict()),
                model_config=plain(config.to_dict()) if hasattr(config, "to_dict") else {},
            )
        )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        metrics = only_numbers(logs or {})
        self._outbox.send(
            Logged(
                step=state.global_step,
                max_steps=state.max_steps,
                epoch=state.epoch,
                metrics=metrics,
                time=time.time(),
                samples_per_second=self._speed(state.global_step) if "loss" in metrics else None,
            )
        )

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        ray.train.report({**only_numbers(metrics or {}), "step": state.global_step, "epoch": state.epoch})
        # What an evaluation took is not the training's speed.
        self._last_step, self._last_time = state.global_step, time.monotonic()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        ray.train.report({"step": state.global_step, "epoch": state.epoch})

    def _assert_synchronised(self, args: TrainingArguments) -> None:
        """Stop before the first step where no gradient would be exchanged: every rank would train its own model."""
        trainer = self._trainer
        parallel = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled or args.parallel_mode == ParallelMode.TPU
        if args.world_size > 1 and not parallel and trainer.model_wrapped is trainer.model:
            plain = not any(isinstance(parameter, DTensor) for parameter in trainer.model.parameters())
            if plain:
                raise TrainingFailed(
                    f"{args.world_size} workers and a model that nothing wraps: each would train a model of its own."
                    " A trainer's constructor or a callback has prepared the model before train()."
                )

    def _speed(self, step: int) -> float | None:
        steps, now = step - self._last_step, time.monotonic()
        seconds = now - self._last_time
        self._last_step, self._last_time = step, now
        return steps * self._batch_size / seconds if steps > 0 and seconds > 0 else None


def only_numbers(logs: dict[str, Any]) -> dict[str, float]:
    """Keep what is a number, as a Python float or int; NaN and infinities stay."""
    numbers_only = {key: value for key, value in logs.items() if isinstance(value, numbers.Number)}
    return {key: value if isinstance(value, bool | int) else float(value) for key, value in numbers_only.items()}  # type: ignore[arg-type]  # numpy's are Numbers too


def plain(value: Any) -> Any:
    """Turn arguments or a model's configuration into JSON types; what has none becomes its text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)

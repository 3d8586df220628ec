"""What a rank tells the outside: logs to the driver from rank 0, evaluations and saves to Ray Train from all."""

from __future__ import annotations

import time
from typing import Any

import ray.train
from ray.train.v2._internal.execution import context as execution
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.training_args import ParallelMode

from raytrainer.errors import TrainingFailed
from raytrainer.events import Began, Logged
from raytrainer.meaning import data_read
from raytrainer.metering import Meter, Reading
from raytrainer.outbox import Outbox
from raytrainer.plain import only_numbers, plain
from raytrainer.snapshot import replaced

# Logs that are told again after a resume: those that a driver which was killed may not have heard.
_HISTORY = 10_000


class ReportingCallback(TrainerCallback):
    """Worker, every rank: turns transformers' logs, evaluations and saves into events and Ray Train reports.

    Ray Train puts the reports of all ranks together, so they are made where transformers calls back on every rank
    equally often: once a step that is evaluated, saved, or both. Logs go to the driver alone, from rank 0.

    Args:
        trainer: the trainer that it belongs to.
        outbox: the way to the driver.
        precision: name of the precision that was chosen.
    """

    def __init__(self, trainer: Trainer, outbox: Outbox, precision: str) -> None:
        self._trainer, self._outbox, self._precision = trainer, outbox, precision
        self._meter = Meter(trainer)
        self._reported = -1

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._assert_synchronised(args)
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self._meter.begin(state.global_step, batch_size)
        config: Any = getattr(kwargs.get("model"), "config", None)
        self._outbox.send(
            Began(
                step=state.global_step,
                max_steps=state.max_steps,
                world_size=args.world_size,
                batch_size=batch_size,
                precision=self._precision,
                arguments=plain(args.to_sanitized_dict()),
                model_config=plain(config.to_dict()) if hasattr(config, "to_dict") else {},
                history=[only_numbers(entry) for entry in state.log_history[-_HISTORY:]],
                data=data_read(self._trainer),
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
        trained = self._meter.read(state.global_step) if "loss" in metrics else Reading()
        self._outbox.send(
            Logged(
                step=state.global_step,
                max_steps=state.max_steps,
                epoch=state.epoch,
                metrics=metrics,
                time=time.time(),
                **vars(trained),
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
        _report({**only_numbers(metrics or {}), "step": state.global_step, "epoch": state.epoch})
        self._reported = state.global_step
        # What an evaluation took is not the training's speed.
        self._meter.skip(state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # Ray Train takes one report of a worker at a time: the second of a step would stand still for the first.
        if state.global_step != self._reported:
            _report({"step": state.global_step, "epoch": state.epoch})

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


def _report(metrics: dict[str, Any]) -> None:
    """Report to Ray Train without a checkpoint, for whose name alone it has all ranks wait for each other."""
    context = execution._train_context
    if context is None:  # a trial in its own process
        ray.train.report(metrics)
        return
    with replaced(context, "_sync_checkpoint_dir_name_across_ranks", lambda name: name):
        ray.train.report(metrics)

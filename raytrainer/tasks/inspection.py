"""Worker: what a trainer would need and do, found out without training, or with a few timed steps."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from raytrainer.contract import sample_batch
from raytrainer.contract.traceless import model_untouched
from raytrainer.ranks import gather

_TIMED_STEPS, _WARM_UP_STEPS = 8, 3

# Bytes of optimizer state for a trained parameter; for all others two moments of 4 bytes, as AdamW has them.
_STATE_BYTES = {"sgd": 0.0, "adafactor": 0.1, "lion": 4.0, "rmsprop": 4.0, "adagrad": 4.0}


@dataclass(frozen=True)
class Memory:
    """What one worker's device holds during a training, in bytes.

    Args:
        parameters: the model's.
        gradients: of what is trained; twice with several workers, who exchange a copy of them.
        optimizer: its state.
        activations: what a forward pass over one whole batch keeps for the backward pass; None where that could not
            be seen.
        device: what the device has; of a machine's memory this worker's share.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int | None
    device: int

    @property
    def needed(self) -> int:
        return self.parameters + self.gradients + self.optimizer + (self.activations or 0)


@dataclass(frozen=True)
class Timing:
    """What a few steps took.

    Args:
        step: seconds of an optimizer step.
        evaluation: seconds of an evaluation, estimated from a few batches; None without one.
        peak: bytes that the device held at most; None where it does not say.
    """

    step: float
    evaluation: float | None
    peak: int | None


@dataclass(frozen=True)
class Inspection:
    """What was found out about a trainer.

    Args:
        model: the model's class.
        parameters: how many there are.
        trained: how many of them are trained.
        train_examples: None where the data does not say how many.
        eval_examples: 0 without evaluation data.
        max_steps: optimizer steps in all.
        steps_per_epoch: optimizer steps of an epoch, None where the data does not say how many.
        batch_size: examples of an optimizer step, over all workers.
        memory: the fullest worker's.
        timing: None where no step was to be timed.
    """

    model: str
    parameters: int
    trained: int
    train_examples: int | None
    eval_examples: int
    max_steps: int
    steps_per_epoch: int | None
    batch_size: int
    memory: Memory
    timing: Timing | None


class Inspector:
    """What the workers do for ``raytrainer check`` in place of a training.

    Args:
        timed: whether to train for a few steps.
    """

    def __init__(self, timed: bool) -> None:
        self._timed = timed

    def __call__(self, trainer: Trainer) -> Inspection:
        model: Any = trainer.model
        args = trainer.args
        loader = trainer.get_train_dataloader()
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        _, per_epoch, examples, _, _, _, max_steps = trainer.set_initial_training_values(args, loader)
        memory = _fullest(_memory(trainer))
        return Inspection(
            model=type(model).__name__,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            trained=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
            train_examples=examples if per_epoch else None,
            eval_examples=_length(trainer.eval_dataset),
            max_steps=max_steps,
            steps_per_epoch=per_epoch,
            batch_size=batch_size,
            memory=memory,
            timing=_time(trainer) if self._timed else None,
        )


def _memory(trainer: Trainer) -> Memory:
    model: Any = trainer.model
    parameters = list(model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    parts = trainer.args.world_size if sharded else 1
    gradients = _bytes(trained) * (1 if sharded or trainer.args.world_size == 1 else 2)
    optimizer = str(getattr(trainer.args.optim, "value", trainer.args.optim))
    each = next((size for name, size in _STATE_BYTES.items() if name in optimizer), 2.0 if "8bit" in optimizer else 8.0)
    state = int(each * sum(parameter.numel() for parameter in trained))
    activations = None if sharded else _activations(trainer)
    return Memory(_bytes(parameters) // parts, gradients // parts, state // parts, activations, _device_memory(trainer))


def _activations(trainer: Trainer) -> int | None:
    """Count what a forward pass over a whole batch keeps for the backward pass, each storage once."""
    model: Any = trainer.model
    batch = sample_batch(trainer, trainer.args.train_batch_size)
    if batch is None:
        return None
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        model_untouched(model, trainer.args.device),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        trainer.compute_loss_context_manager(),
        trainer.accelerator.autocast(),
    ):
        for module in model.modules():
            module.training = True
        # Held, so that no storage is freed and its address given to another.
        output = model(**batch)
        del output
    return sum(kept.values())


def _device_memory(trainer: Trainer) -> int:
    device = trainer.args.device
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    import psutil

    return int(psutil.virtual_memory().total) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _time(trainer: Trainer) -> Timing:
    args = trainer.args
    watch = _StepWatch()
    quiet = {"max_steps": _TIMED_STEPS, "eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    for name, value in {**quiet, "eval_on_start": False, "logging_strategy": "no"}.items():
        setattr(args, name, value)
    if args.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(args.device)
    trainer.add_callback(watch)
    trainer.train()
    peak = torch.cuda.max_memory_allocated(args.device) if args.device.type == "cuda" else None
    return Timing(watch.seconds(), _evaluation_seconds(trainer), peak)


def _evaluation_seconds(trainer: Trainer) -> float | None:
    data: Any = trainer.eval_dataset
    few = 4 * trainer.args.eval_batch_size * trainer.args.world_size
    if data is None or isinstance(data, dict) or not hasattr(data, "select"):
        return None
    part = data.select(range(min(few, len(data))))
    began = time.monotonic()
    trainer.evaluate(part)
    return (time.monotonic() - began) * len(data) / len(part)


class _StepWatch(TrainerCallback):
    """Worker: takes the time at the end of each optimizer step."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if args.device.type == "cuda":
            torch.cuda.synchronize(args.device)
        self._times.append(time.monotonic())

    def seconds(self) -> float:
        """Return the seconds of a step, the first ones left out."""
        counted = self._times[min(_WARM_UP_STEPS, len(self._times) - 2) :]
        return (counted[-1] - counted[0]) / (len(counted) - 1) if len(counted) > 1 else math.nan


def _fullest(memory: Memory) -> Memory:
    """Return the memory of the worker that has least to spare."""
    return min(gather(memory), key=lambda one: one.device - one.needed)


def _bytes(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _length(data: Any) -> int:
    if isinstance(data, dict):
        return sum(map(_length, data.values()))
    return len(data) if hasattr(data, "__len__") else 0

"""What every rank is told to do, and what rank 0 hands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raytrainer import shipping
from raytrainer.errors import UserError
from raytrainer.weights import Weights

if TYPE_CHECKING:
    import ray
    from transformers import Trainer, TrainingArguments

    from raytrainer.precision import Precision
    from raytrainer.resuming import Recovery

TrainerFactory = Callable[["TrainingArguments"], "Trainer"]
"""What all ways in come down to: arguments built on this worker in, the trainer out. Small when pickled."""
Finish = Callable[["Trainer"], Any]
"""What every rank does with its trainer after the method was called; what rank 0's returns goes to the driver."""


@dataclass(frozen=True)
class Order:
    """What every rank is told to do.

    Args:
        factory: makes the trainer.
        arguments: class of the training arguments and the values their constructor is given.
        attributes: what the user's program set on the arguments beside their fields, packed.
        action: name of the trainer's method to call: ``train``, ``evaluate``, ``predict``; or ``inspect`` for none.
        call: positional and keyword arguments of that call, packed.
        state: fields of the TrainerState to start from, None to start anew.
        weights: weights to load before the call, None where the factory brings them.
        precision: what was asked for; None means what the arguments say.
        loss_scale: ``auto`` or ``transformers``.
        use_cpu: whether the workers have no accelerator.
        use_tpu: whether the workers have TPUs.
        directory: the folder the user started from.
        environment: environment variables that the workers get.
        system_metrics: whether MLflow's monitors watch the nodes.
        global_train_batch_size: examples of an optimizer step, None where they follow from the number of workers.
        recovery: how a training keeps its checkpoints; None for an evaluation or a prediction.
        finish: what to do after the call; None to send the trained weights and settings home instead.
    """

    factory: TrainerFactory
    arguments: tuple[type[TrainingArguments], dict[str, Any]]
    attributes: shipping.Parcel
    action: str
    call: shipping.Parcel
    state: dict[str, Any] | None
    weights: ray.ObjectRef[Weights] | None
    precision: str | None
    loss_scale: str
    use_cpu: bool
    use_tpu: bool
    directory: str
    environment: dict[str, str] = field(default_factory=dict)
    system_metrics: bool = False
    global_train_batch_size: int | None = None
    recovery: Recovery | None = None
    finish: Finish | None = None


@dataclass(frozen=True)
class Schedule:
    """What optimizer and scheduler were set to when a training ended.

    Args:
        groups: hyperparameters of the optimizer's parameter groups, without parameters.
        scheduler: the scheduler's state dict.
    """

    groups: list[dict[str, Any]]
    scheduler: dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What a training changed beside weights and state.

    Args:
        config: entries of the model's configuration that are plain values; transformers aligns special tokens there.
        generation_config: the same of its generation configuration.
        training: whether the model was left in training mode.
        control: fields of the TrainerControl.
    """

    config: dict[str, Any]
    generation_config: dict[str, Any]
    training: bool
    control: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """What rank 0 hands back.

    Args:
        value: what the trainer's method returned.
        finished: what the order's ``finish`` returned.
        state: fields of the TrainerState.
        weights: the trained weights, None where nothing was trained or they stay with the workers.
        schedule: hyperparameters at the end, None where nothing was trained or they cannot travel.
        settings: what a training changed beside them, None where nothing was trained.
        callbacks: attributes of each callback that can travel, with the callback's class, in order.
        precision: what was computed in, and why.
        stopped: the step at which the workers saved and stopped because the user asked for it; None where they did
            what they were told.
        sources: files of the user's modules that rank 0 has loaded.
        error: a mistake of the user's that all ranks saw; everything else is None then.
    """

    value: Any = None
    finished: Any = None
    state: dict[str, Any] | None = None
    weights: Weights | None = None
    schedule: Schedule | None = None
    settings: Settings | None = None
    callbacks: list[tuple[type, dict[str, bytes]]] = field(default_factory=list)
    precision: Precision | None = None
    stopped: int | None = None
    sources: list[str] = field(default_factory=list)
    error: UserError | None = None

"""RayTrainer, RaySeq2SeqTrainer, distribute: transformers' trainers whose work is done by Ray Train workers."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

from ray.train import RunConfig, ScalingConfig
from transformers import Seq2SeqTrainer, Trainer

from raytrainer.driver import DriverSide
from raytrainer.where import on_driver

OWN_ARGUMENTS = (
    *("scaling_config", "run_config", "precision", "loss_scale"),
    *("global_train_batch_size", "allow_changes"),
)


class Placed(abc.ABCMeta):  # ABCMeta, so that a trainer class may also be an ABC
    """Decides, when a trainer class is called, whether it is built in this process or recorded for the workers."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        own = {name: kwargs.pop(name) for name in OWN_ARGUMENTS if name in kwargs}
        if not on_driver() or issubclass(cls, DriverSide):
            return super().__call__(*args, **kwargs)
        return driver_class(cast("Hashable", cls)).record(cls, args, kwargs, **own)


class OnWorkers(metaclass=Placed):
    """Mixin that makes a Trainer subclass run on Ray Train workers; see :class:`RayTrainer`."""

    def __init__(
        self,
        *args: Any,
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        precision: str | None = None,
        loss_scale: str = "auto",
        global_train_batch_size: int | None = None,
        allow_changes: bool = False,
        **kwargs: Any,
    ) -> None:
        # Reached only where the trainer is built: there the driver's choices have been acted upon already.
        super().__init__(*args, **kwargs)


class RayTrainer(OnWorkers, Trainer):
    """transformers' Trainer, with ``train``, ``evaluate`` and ``predict`` done by Ray Train workers.

    The constructor takes what ``transformers.Trainer`` takes, and six more keyword arguments. On a driver it only
    records; subclass overrides, callbacks and ``compute_metrics`` run on the workers. On a Ray Train worker and under
    torchrun it is ``transformers.Trainer``.

    Args:
        scaling_config: number and kind of workers, default one a GPU of the cluster, else one CPU worker.
        run_config: Ray Train's run configuration: name, storage, failures.
        precision: ``"auto"`` for what the workers' hardware does best, ``"bf16"``, ``"fp16"``, ``"fp32"``, or None
            for what the training arguments say.
        loss_scale: ``"auto"`` corrects transformers' loss for models that ignore ``num_items_in_batch``, unless the
            class computes its loss itself; ``"transformers"`` leaves it.
        global_train_batch_size: examples of an optimizer step over all workers; each worker's accumulation follows.
            Default is what the training arguments say, for workers that come and go with the most of them.
        allow_changes: resume a checkpoint though the model, the data or their order are not those it was trained with.

    Raises:
        UserError: what was passed is wrong, found before a worker starts, with the setting, the value and the fix.

    Example:
        >>> trainer = RayTrainer(model, args, train_dataset=data, scaling_config=ScalingConfig(num_workers=2))
        >>> trainer.train()
        >>> trainer.save_model("model")
    """


class RaySeq2SeqTrainer(OnWorkers, Seq2SeqTrainer):
    """transformers' Seq2SeqTrainer, with ``train``, ``evaluate`` and ``predict`` done by Ray Train workers.

    ``evaluate`` and ``predict`` take generation arguments as the parent's do, and as the parent's they keep the
    examples that fill up the last batches of several workers. See ``RayTrainer``.
    """


Kind = TypeVar("Kind", bound=type)


def distribute(trainer_class: Kind) -> Kind:
    """Give a Trainer subclass what RayTrainer has.

    Args:
        trainer_class: any subclass of ``transformers.Trainer``, whatever its constructor takes.

    Returns:
        A subclass with the same constructor plus RayTrainer's own arguments.

    Raises:
        TypeError: it is not a Trainer subclass.

    Example:
        >>> trainer = distribute(SFTTrainer)(model, args=args, scaling_config=ScalingConfig(num_workers=2))
    """
    if not (inspect.isclass(trainer_class) and issubclass(trainer_class, Trainer)):
        raise TypeError(
            f"distribute({trainer_class!r}): it takes a subclass of transformers.Trainer,"
            " for example distribute(SFTTrainer), the class and not an object of it"
        )
    if issubclass(trainer_class, OnWorkers):
        return trainer_class
    distributed: Kind = _named_like(trainer_class, (OnWorkers, trainer_class))
    return distributed


@cache
def driver_class(kind: Any) -> Any:
    """Return the class of the driver's objects for a trainer class: it is a subclass, of the same name."""
    return _named_like(kind, (DriverSide, kind))


def _named_like(kind: type, bases: tuple[type, ...]) -> Any:
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return _metaclass(type(kind))(kind.__name__, bases, names)


def _metaclass(other: type) -> type:
    """Join Placed with a class's own metaclass, where it has one, as sentence-transformers' trainers do."""
    if issubclass(other, Placed):
        return other
    return Placed if issubclass(Placed, other) else type(Placed.__name__, (Placed, other), {})

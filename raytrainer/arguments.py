"""TrainingArguments that a driver without the workers' hardware can build, and their rebuilding on a worker."""

from __future__ import annotations

import copy
import dataclasses
from functools import cached_property
from typing import Any, TypeVar

import torch
from transformers import Seq2SeqTrainingArguments, TrainingArguments

from raytrainer.where import on_driver

# What a driver's own hardware must not decide, and the value with which transformers' checks pass anywhere.
_DECIDED_ON_THE_WORKER: dict[str, Any] = {
    "use_cpu": True,
    "dataloader_pin_memory": False,
    "tf32": None,
    "deepspeed": None,
    "torch_compile": False,
    "torch_compile_backend": None,
    "torch_compile_mode": None,
}


# What TrainingArguments.__post_init__ sets beside the fields; each process makes its own.
_OF_TRANSFORMERS = frozenset(
    {"distributed_state", "mixed_precision", "fsdp_plugin_args", "deepspeed_plugin", "hf_deepspeed_config"}
)


class HardwareElsewhere:
    """Mixin for TrainingArguments: on a driver, leaves to the workers whatever depends on hardware."""

    def __post_init__(self) -> None:
        if not on_driver():
            super().__post_init__()  # type: ignore[misc]  # the class mixed with is a TrainingArguments
            return
        asked = {name: getattr(self, name) for name in _DECIDED_ON_THE_WORKER}
        for name, value in _DECIDED_ON_THE_WORKER.items():
            setattr(self, name, value)
        try:
            super().__post_init__()  # type: ignore[misc]  # as above
        finally:
            for name, value in asked.items():
                setattr(self, name, value)

    @cached_property
    def _setup_devices(self) -> torch.device:
        if not on_driver():
            return super()._setup_devices  # type: ignore[misc, no-any-return]  # as above
        # Not accelerate's PartialState: it would take a GPU of the driver, and reset an accelerator of the user's.
        self.distributed_state = None
        self._n_gpu = 0
        return torch.device("cpu")


class RayTrainingArguments(HardwareElsewhere, TrainingArguments):
    """transformers' TrainingArguments, without new fields, for a driver that lacks the workers' hardware.

    ``bf16``, ``fp16``, ``tf32``, ``fsdp`` and ``torch_compile`` are checked where the hardware is: on the workers,
    before the first step. ``deepspeed`` is checked by the trainer's constructor, without DeepSpeed, which only the
    workers need. On a worker and under torchrun it is TrainingArguments.

    Example:
        >>> RayTrainingArguments(output_dir="out", bf16=True).bf16  # on a laptop without a GPU
        True
    """


class RaySeq2SeqTrainingArguments(HardwareElsewhere, Seq2SeqTrainingArguments):
    """transformers' Seq2SeqTrainingArguments, without new fields, for a driver that lacks the workers' hardware.

    See ``RayTrainingArguments``.
    """


Arguments = TypeVar("Arguments", bound=TrainingArguments)


def field_values(arguments: TrainingArguments) -> dict[str, Any]:
    """Return what the constructor of these arguments takes, as they stand now.

    Args:
        arguments: any TrainingArguments, attributes set after construction included.

    Returns:
        Field name to value, copies where the constructor changes what it is given.
    """
    # accelerator_config, fsdp_config and the *_kwargs are changed in place by TrainingArguments.__post_init__.
    fields = (field for field in dataclasses.fields(arguments) if field.init)
    return {field.name: copy.deepcopy(getattr(arguments, field.name)) for field in fields}


def rebuild(kind: type[Arguments], values: dict[str, Any], **changes: Any) -> Arguments:
    """Build arguments through their constructor, so that every check and every derived value is this process's own.

    Args:
        kind: class of the arguments.
        values: as :func:`field_values` gave them.
        changes: fields that differ from ``values``.

    Returns:
        New arguments.

    Raises:
        ValueError: what the constructor refuses.
    """
    built = kind(**{**values, **changes})
    if derives_fields(kind):
        # The driver's values are derived already: a subclass that doubles a learning rate must not double it again.
        for name in values.keys() - changes.keys() - _DECIDED_ON_THE_WORKER.keys():
            setattr(built, name, values[name])
    return built


def derives_fields(kind: type[TrainingArguments]) -> bool:
    """Tell whether a class of training arguments computes fields in a ``__post_init__`` of its own."""
    derive = (base for base in kind.__mro__ if "__post_init__" in vars(base))
    return any(base.__module__.split(".")[0] not in ("transformers", "raytrainer") for base in derive)


def extra_attributes(arguments: TrainingArguments) -> dict[str, Any]:
    """Return what the user's program set on the arguments beside their fields.

    Args:
        arguments: any TrainingArguments.

    Returns:
        Attribute name to value, without what TrainingArguments set themselves.
    """
    fields = {field.name for field in dataclasses.fields(arguments)}
    own = {name: value for name, value in vars(arguments).items() if name not in fields | _OF_TRANSFORMERS}
    return {name: value for name, value in own.items() if not name.startswith("_")}

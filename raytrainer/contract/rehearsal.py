"""One small real batch, and one forward pass over it that leaves no trace; both without talking to other ranks."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from itertools import islice
from typing import Any

import datasets
import torch
from accelerate.utils import send_to_device
from torch.autograd.graph import save_on_cpu
from torch.distributed.tensor import DTensor
from transformers import Trainer

from raytrainer.contract.traceless import model_untouched, objects_untouched


def overrides(trainer: Trainer, *methods: str) -> str | None:
    """Name the first of these methods that the trainer does not have from transformers.Trainer."""
    for name in methods:
        if name in vars(trainer) or getattr(type(trainer), name) is not getattr(Trainer, name):
            return name
    return None


def cannot_rehearse(trainer: Trainer) -> str | None:
    """Say why a forward pass on one rank alone is impossible, if it is."""
    assert trainer.model is not None
    for parameter in trainer.model.parameters():
        # DeepSpeed splits a model when training begins, or with ZeRO 3 where the model is made: such a one has ds_id.
        if isinstance(parameter, DTensor) or hasattr(parameter, "ds_id"):
            return "the model is split over the workers"
        if parameter.device.type in ("meta", "xla"):
            return f"the model is on the device {parameter.device.type!r}"
    return None


def sample_batch(trainer: Trainer, size: int = 2) -> dict[str, Any] | None:
    """Make one small real batch as the trainer's own dataloader would, leaving data and random state as they were.

    Args:
        trainer: a built trainer; its training data is used, or evaluation data where there is none.
        size: examples in the batch at most.

    Returns:
        The batch on the trainer's device; None where the trainer makes its batches in a way of its own, has no
        data, or reads from a stream that cannot be begun twice.
    """
    dataset, loader = trainer.train_dataset, "get_train_dataloader"
    if dataset is None:
        dataset, loader = trainer.eval_dataset, "get_eval_dataloader"
        if isinstance(dataset, dict):
            dataset = next(iter(dataset.values()), None)
    if dataset is None or overrides(trainer, loader, "_get_dataloader", "_prepare_inputs", "_prepare_input"):
        return None
    with objects_untouched(dataset, trainer.data_collator, device=trainer.args.device):
        columns = trainer._signature_columns
        collate = trainer.data_collator
        if isinstance(dataset, datasets.Dataset):
            dataset = trainer._remove_unused_columns(dataset)
        else:
            collate = trainer._get_collator_with_removed_columns(collate)
        trainer._signature_columns = columns
        # Copies, because a collator may take keys out of the examples of a list.
        examples = [copy.copy(example) for example in _first(dataset, size)]
        batch = collate(examples) if examples else None
        return dict(trainer._prepare_inputs(batch)) if isinstance(batch, Mapping) and batch else None


def _first(dataset: Any, size: int) -> list[Any]:
    if isinstance(dataset, datasets.IterableDataset):
        return list(islice(iter(dataset), size))
    if isinstance(dataset, torch.utils.data.IterableDataset) or not hasattr(dataset, "__len__"):
        return []
    indices = list(range(min(size, len(dataset))))
    if indices and getattr(dataset, "__getitems__", None):
        return list(dataset.__getitems__(indices))
    return [dataset[index] for index in indices]


def rehearse(
    trainer: Trainer, batch: Mapping[str, Any], *, num_items: object = None, grad: bool = False, training: bool = False
) -> Any:
    """Run the raw model over a batch under the trainer's autocast, and put everything back as it was.

    Args:
        trainer: a built trainer.
        batch: what forward is called with.
        num_items: ``num_items_in_batch``, handed to forward unless it is None.
        grad: whether to record the graph, which is needed to see whether the loss requires grad.
        training: the mode to run in.

    Returns:
        What forward returned.
    """
    model = trainer.model
    assert model is not None
    parameter = next(model.parameters(), None)
    # Under FSDP and full bf16 evaluation the model is still on the CPU at this point.
    here = trainer.args.device if parameter is None or hasattr(model, "hf_device_map") else parameter.device
    inputs = dict(send_to_device(dict(batch), here))
    if num_items is not None:
        inputs["num_items_in_batch"] = torch.as_tensor(num_items, device=here)
    with contextlib.ExitStack() as stack:
        # In training mode a forward may move parameters: momentum encoders do.
        stack.enter_context(model_untouched(model, here, parameters=training))
        for module in model.modules():
            # Not model.train(): some models do more there, such as merging adapters into the weights.
            module.training = training
        stack.enter_context(torch.set_grad_enabled(grad))
        if grad and here.type != "cpu":
            # Activation checkpointing is off in evaluation mode: a model that just fits must not run out here.
            stack.enter_context(save_on_cpu())
        stack.enter_context(trainer.compute_loss_context_manager())
        stack.enter_context(trainer.accelerator.autocast())
        return model(**inputs)

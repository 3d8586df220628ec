"""A model held to what transformers' Trainer relies on, before the first step; lives on a worker."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import Trainer

from raytrainer.contract.labels import check_evaluation, check_names
from raytrainer.contract.loss_scale import count_items, ignores_num_items
from raytrainer.contract.rehearsal import cannot_rehearse, overrides, rehearse, sample_batch
from raytrainer.contract.rules import check_model
from raytrainer.errors import Problem

__all__ = [
    "Verdict",
    "check_evaluation",
    "check_model",
    "check_names",
    "count_items",
    "ignores_num_items",
    "inspect_model",
    "rehearse",
    "sample_batch",
]


@dataclass(frozen=True)
class Verdict:
    """What an inspection found.

    Args:
        problems: where the model breaks the contract.
        ignores_num_items: whether transformers would scale the model's loss wrongly.
        skipped: why the model was not run, None if it was.
        warnings: what trains well and may still not be meant.
    """

    problems: tuple[Problem, ...] = ()
    ignores_num_items: bool = False
    skipped: str | None = None
    warnings: tuple[Problem, ...] = ()


def inspect_model(trainer: Trainer, *, probe_loss_scale: bool) -> Verdict:
    """Hold a trainer's model to the contract on one small real batch, and leave everything as it was.

    No other rank is talked to, unless the model's own forward does. An exception of the model's or the data's own is
    not a finding and stops nothing here: training meets it again and raises it with its traceback.

    Args:
        trainer: a built trainer that has not begun to train.
        probe_loss_scale: whether to find out about ``ignores_num_items``.

    Returns:
        The verdict; it pickles.

    Raises:
        MemoryError, torch.OutOfMemoryError, torch.AcceleratorError: the device cannot go on.
    """
    if overrides(trainer, "compute_loss"):
        return Verdict(skipped="the trainer computes its loss in a way of its own")
    problems = tuple(check_names(trainer))
    if reason := cannot_rehearse(trainer):
        return Verdict(problems, skipped=reason)
    try:
        batch = sample_batch(trainer, min(2, trainer.args.train_batch_size))
        if batch is None:
            return Verdict(problems, skipped="no batch could be made without touching the data loader")
        problems = tuple(check_model(trainer, batch))
        ignores = probe_loss_scale and not problems and ignores_num_items(trainer, batch)
        return Verdict(problems, ignores, warnings=tuple(check_evaluation(trainer, batch)))
    except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:
        return Verdict(problems, skipped=f"{type(error).__name__}: {error}")

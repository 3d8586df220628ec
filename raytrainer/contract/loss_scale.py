"""Whether a model that is handed ``num_items_in_batch`` divides its loss by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from transformers import Trainer

from raytrainer.contract.rehearsal import overrides, rehearse


def ignores_num_items(trainer: Trainer, batch: Mapping[str, Any]) -> bool:
    """Find out whether the model takes ``num_items_in_batch`` and pays no attention to it.

    transformers then multiplies its loss by the number of processes and leaves out the division by the accumulation
    steps, because it expects a sum over the batch divided by the number of items in all of it.

    Args:
        trainer: a built trainer.
        batch: a batch as forward is called with.

    Returns:
        True if the loss is the same for a count and for its double. False if it differs, or where transformers does
        not rely on the model for the scale.
    """
    if (
        trainer.compute_loss_func is not None
        or trainer.label_smoother is not None
        or overrides(trainer, "compute_loss")
    ):
        return False
    count = count_items(trainer, batch)
    if not count:
        return False
    once, twice = (_loss(rehearse(trainer, batch, num_items=float(items))) for items in (count, 2 * count))
    # A loss of 0 or infinity stays the same when divided. The tolerance is for kernels that are not deterministic.
    return math.isfinite(once) and once != 0 and math.isclose(once, twice, rel_tol=1e-4)


def count_items(trainer: Trainer, batch: Mapping[str, Any]) -> int | None:
    """Count the predictions in a batch as transformers does, without asking the other ranks.

    Args:
        trainer: a built trainer.
        batch: a batch as forward is called with.

    Returns:
        The labels that are not -100; None where transformers does not count.
    """
    if "labels" not in batch or not (trainer.model_accepts_loss_kwargs or trainer.compute_loss_func):
        return None
    shifted = "shift_labels" in batch
    labels = batch["shift_labels" if shifted else "labels"]
    if not isinstance(labels, torch.Tensor):
        return None
    return int((labels[..., 1:] if trainer._loss_shifts_labels and not shifted else labels).ne(-100).sum())


def _loss(outputs: Any) -> float:
    return float(outputs["loss"] if isinstance(outputs, dict) else outputs[0])

"""What a model's forward takes and returns, held to what transformers' Trainer relies on and does not check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import Trainer

from raytrainer.contract.labels import check_names, forward, keeps_labels, parameters
from raytrainer.contract.loss_scale import count_items
from raytrainer.contract.rehearsal import overrides, rehearse
from raytrainer.errors import Problem


def check_model(trainer: Trainer, batch: Mapping[str, Any]) -> list[Problem]:
    """Hold a model to the contract, by its signature and by a forward pass over a batch.

    Args:
        trainer: a built trainer. Where it overrides ``compute_loss`` or ``training_step``, what the model takes and
            returns is its own business, and nothing is found.
        batch: a batch as forward is called with.

    Returns:
        All that is wrong, empty when nothing is.

    Raises:
        Exception: whatever forward raises, other than a TypeError, which says that the call does not fit.
    """
    if overrides(trainer, "compute_loss", "training_step"):
        return []
    inputs = dict(batch)
    if "label" in parameters(trainer) and "label" not in inputs and "labels" in inputs:
        inputs["label"] = inputs.pop("labels")  # found by its name already; see what else there is
    if keeps_labels(trainer):
        inputs.pop("labels", None)
    num_items = count_items(trainer, batch) if trainer.model_accepts_loss_kwargs else None

    def found(outputs: Any, *, trains: bool) -> list[Problem]:
        return _output_problems(trainer, batch, outputs, trains=trains)

    trains = trainer.train_dataset is not None
    problems = check_names(trainer)
    try:
        outputs = rehearse(trainer, inputs, num_items=num_items, grad=True)
        if (
            trains
            and (trainer.eval_dataset is None or not found(outputs, trains=False))
            and found(outputs, trains=True)
        ):
            # A model may compute its loss, or record its gradient, in training mode alone.
            outputs = rehearse(trainer, inputs, num_items=num_items, grad=True, training=True)
        return problems + found(outputs, trains=trains)
    except TypeError as error:
        return [*problems, _misfit(trainer, inputs, error)]


def _output_problems(trainer: Trainer, batch: Mapping[str, Any], outputs: Any, *, trains: bool) -> list[Problem]:
    returned = f"what {forward(trainer)} returns"

    def problem(value: object, reason: str, fix: str) -> list[Problem]:
        return [Problem(returned, value, reason, fix)]

    if not isinstance(outputs, dict | tuple | list):
        tensor = ", and would take the first row of a tensor for it" if torch.is_tensor(outputs) else ""
        reason = f"the Trainer reads the loss from a tuple or a transformers.utils.ModelOutput{tensor}"
        return problem(type(outputs).__name__, reason, "return a tuple, (loss, logits)")
    labels = [name for name in dict.fromkeys([*trainer.label_names, "labels"]) if batch.get(name) is not None]
    if keeps_labels(trainer) or not (trains or labels):
        return []
    items = dict(outputs) if isinstance(outputs, dict) else dict(enumerate(outputs))
    place = "loss" if isinstance(outputs, dict) else 0
    loss = items.get(place)
    if loss is None and labels:
        fix = "compute the loss when labels are given and return it, first in a tuple or as loss of a ModelOutput"
        return problem(list(items), f"no loss, though {', '.join(labels)} were given", fix)
    if loss is None:
        fix = f"let the dataset or the collator give {' and '.join(trainer.label_names) or 'labels'}"
        fix += ", or return_loss=True" if "return_loss" in parameters(trainer) else ""
        return problem(list(items), f"no loss, and no labels in the batch, which has {', '.join(batch)}", fix)
    if not isinstance(loss, torch.Tensor):
        reason = f"the loss, at {place!r}, has to be a tensor"
        return problem(type(loss).__name__, reason, "return the loss as torch computed it, without .item()")
    if loss.numel() != 1:
        scalars = [key for key, value in items.items() if torch.is_tensor(value) and value.dim() == 0]
        fix = f"put what is at {scalars[0]!r} there" if scalars else "reduce the loss, by loss.mean()"
        return problem(f"shape {tuple(loss.shape)}", f"the loss, at {place!r}, has to be a scalar", fix)
    if not loss.is_floating_point():
        reason = f"the loss, at {place!r}, has to be a floating point number"
        return problem(str(loss.dtype), reason, "return the loss there, and what this is after it")
    if trains and not loss.requires_grad and _learns(trainer):
        reason = f"the loss, at {place!r}, does not depend on any parameter"
        return problem("no gradient", reason, "compute the loss without detach(), no_grad() and .item()")
    return []


def _misfit(trainer: Trainer, inputs: Mapping[str, Any], error: TypeError) -> Problem:
    arguments = parameters(trainer)
    has = ", ".join(
        f"{key} {list(value.shape) if torch.is_tensor(value) else ''}".strip() for key, value in inputs.items()
    )
    reason = f"TypeError: {error}. The batch has {has}; forward takes {', '.join(map(str, arguments.values()))}"
    fix = "name the columns of the dataset, or what the collator returns, after the arguments of forward"
    if "num_items_in_batch" in str(error):
        fix = "set accepts_loss_kwargs = False in the model's class: forward's ** arguments are handed this count"
    return Problem(forward(trainer), "raised TypeError", reason, fix)


def _learns(trainer: Trainer) -> bool:
    assert trainer.model is not None
    return any(parameter.requires_grad for parameter in trainer.model.parameters())

"""What transformers' Trainer relies on in a model and does not check, rule by rule, each with its fix."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from transformers import Trainer
from transformers.trainer_utils import unwrap_peft_model

from raytrainer.contract.loss_scale import count_items
from raytrainer.contract.rehearsal import overrides, rehearse
from raytrainer.errors import Problem, unknown_name


def check_model(trainer: Trainer, batch: Mapping[str, Any]) -> list[Problem]:
    """Hold a model to the contract, by its signature and by one forward pass over a batch.

    Args:
        trainer: a built trainer. Where it overrides ``compute_loss`` or ``training_step``, what the model takes and
            returns is its own business and nothing is found.
        batch: a batch as forward is called with.

    Returns:
        All that is wrong, empty when nothing is.

    Raises:
        Exception: whatever forward raises, other than a TypeError, which says that the call does not fit.
    """
    if overrides(trainer, "compute_loss", "training_step"):
        return []
    problems = check_names(trainer)
    inputs = dict(batch)
    if "label" in _parameters(trainer) and "label" not in inputs and "labels" in inputs:
        inputs["label"] = inputs.pop("labels")  # already found by its name: see what else there is
    own_loss = trainer.compute_loss_func is not None or trainer.label_smoother is not None
    if own_loss:
        inputs.pop("labels", None)
    num_items = count_items(trainer, batch) if trainer.model_accepts_loss_kwargs else None
    try:
        outputs = rehearse(trainer, inputs, num_items=num_items, grad=True)
        found = _output_problems(trainer, inputs, outputs, needs_loss=not own_loss)
        if found and trainer.eval_dataset is None:
            # A model may compute its loss in training alone, and nobody asks for an evaluation.
            outputs = rehearse(trainer, inputs, num_items=num_items, grad=True, training=True)
            found = _output_problems(trainer, inputs, outputs, needs_loss=not own_loss)
    except TypeError as error:
        found = [_misfit(trainer, inputs, error)]
    return problems + found


def check_names(trainer: Trainer) -> list[Problem]:
    """Hold the names of the label arguments to the contract.

    Args:
        trainer: a built trainer.

    Returns:
        What is wrong with ``label_names`` and with the names of forward's arguments.
    """
    parameters, names = _parameters(trainer), trainer.args.label_names or []
    problems = []
    if "label" in parameters or "label" in names:
        problems.append(
            Problem(
                f"{_name(trainer)}.forward" if "label" in parameters else "label_names",
                "label",
                "transformers' collators rename the column label to labels, so an argument called label never arrives",
                "call the argument labels",
            )
        )
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    problems += [
        Problem(
            "label_names",
            name,
            f"{_name(trainer)}.forward has no argument of this name; it takes {_arguments(trainer)}",
            unknown_name(name, list(parameters)),
        )
        for name in names
        if name not in parameters and name != "label" and not takes_any
    ]
    return problems


def check_evaluation(trainer: Trainer, batch: Mapping[str, Any]) -> list[Problem]:
    """Find what lets a model train and leaves its evaluation without a loss and without metrics.

    Args:
        trainer: a built trainer.
        batch: a batch as forward is called with.

    Returns:
        At most one finding, a warning: a run may want no loss of its evaluation.
    """
    returns_loss = not trainer.label_names and (batch.get("return_loss") or trainer.can_return_loss)
    missing = [name for name in trainer.label_names if batch.get(name) is None]
    if trainer.eval_dataset is None or returns_loss or overrides(trainer, "prediction_step"):
        return []
    if trainer.label_names and not missing:
        return []
    why = f"{', '.join(missing)} is not in the batch" if missing else f"no argument of {_name(trainer)}.forward is named"
    return [
        Problem(
            "label_names",
            trainer.args.label_names,
            f"{why}, so evaluation gives no eval_loss and compute_metrics is not called; "
            f"transformers takes arguments with 'label' in their name for labels: {trainer.label_names}",
            f"set label_names to those of {', '.join(batch)} that hold the labels",
        )
    ]


def _output_problems(trainer: Trainer, inputs: Mapping[str, Any], outputs: Any, *, needs_loss: bool) -> list[Problem]:
    returns = f"what {_name(trainer)}.forward returns"
    if not isinstance(outputs, dict | tuple | list):
        tensor = "; indexing a tensor would take its first row for the loss" if torch.is_tensor(outputs) else ""
        reason = f"the Trainer reads the loss from a tuple or a transformers.utils.ModelOutput{tensor}"
        return [Problem(returns, type(outputs).__name__, reason, "return (loss, logits)")]
    if not needs_loss:
        return []
    if isinstance(outputs, dict):
        place, loss = "loss", outputs.get("loss")
    else:
        place, loss = "first in the tuple", outputs[0] if outputs else None
    if loss is None:
        return [_lossless(trainer, inputs, returns, list(outputs) if isinstance(outputs, dict) else type(outputs).__name__)]
    if not isinstance(loss, torch.Tensor):
        reason = f"the loss ({place}) is not a tensor, so there is no gradient"
        return [Problem(returns, type(loss).__name__, reason, "return the loss as computed, without .item()")]
    if loss.numel() != 1:
        others = outputs.items() if isinstance(outputs, dict) else enumerate(outputs)
        losses = [key for key, value in others if torch.is_tensor(value) and value.dim() == 0]
        fix = f"put the loss there: it seems to be at {losses[0]!r}" if losses else "reduce the loss, as by loss.mean()"
        return [Problem(returns, tuple(loss.shape), f"the Trainer needs a scalar as the loss ({place})", fix)]
    if not loss.is_floating_point():
        fix = "return the loss there, not a count or an index"
        return [Problem(returns, loss.dtype, f"the loss ({place}) is not a floating point number", fix)]
    if not loss.requires_grad and any(parameter.requires_grad for parameter in trainer.model.parameters()):
        fix = "compute the loss from the outputs without detach(), no_grad() or .item()"
        return [Problem(returns, "a loss without gradient", f"the loss ({place}) depends on no parameter", fix)]
    return []

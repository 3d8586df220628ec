"""The names of a model's label arguments: what transformers reads from them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import Trainer
from transformers.trainer_utils import unwrap_peft_model

from raytrainer.contract.rehearsal import overrides
from raytrainer.errors import Problem, unknown_name


def check_names(trainer: Trainer) -> list[Problem]:
    """Hold the names of the label arguments to the contract.

    Args:
        trainer: a built trainer.

    Returns:
        What is wrong with ``label_names`` and with the names of forward's arguments.
    """
    arguments, names = parameters(trainer), trainer.args.label_names or []
    problems = [
        Problem(
            setting,
            "label",
            "transformers' collators rename the column label to labels, so an argument called label gets nothing",
            "call the argument labels",
        )
        for setting, known in ((f"argument of {forward(trainer)}", arguments), ("label_names", names))
        if "label" in known
    ]
    elsewhere = {"label", "labels"} if keeps_labels(trainer) else {"label"}
    takes_any = any(argument.kind is argument.VAR_KEYWORD for argument in arguments.values())
    problems += [
        Problem(
            "label_names",
            name,
            f"{forward(trainer)} has no argument of this name, it takes {', '.join(arguments)}",
            unknown_name(name, list(arguments)),
        )
        for name in names
        if name not in arguments and name not in elsewhere and not takes_any
    ]
    return problems


def keeps_labels(trainer: Trainer) -> bool:
    """Tell whether the trainer takes the labels out of a batch before forward, for a loss that it computes itself."""
    return trainer.compute_loss_func is not None or trainer.label_smoother is not None


def check_evaluation(trainer: Trainer, batch: Mapping[str, Any]) -> list[Problem]:
    """Find what leaves the evaluation of a model that trains well without a loss and without metrics.

    Args:
        trainer: a built trainer.
        batch: a batch as forward is called with.

    Returns:
        At most one finding, and that a warning: not everybody wants a loss of an evaluation.
    """
    names = trainer.label_names
    missing = [name for name in names if batch.get(name) is None]
    has_loss = not missing if names else batch.get("return_loss") or trainer.can_return_loss
    if trainer.eval_dataset is None or has_loss or overrides(trainer, "prediction_step"):
        return []
    why = f"the batch has no {', '.join(missing)}" if names else f"{forward(trainer)} names no argument *label*"
    present = ", ".join(name for name in names if name not in missing) or f"those of {', '.join(batch)} that are labels"
    reason = f"{why}, so evaluation gives no eval_loss and does not call compute_metrics"
    return [Problem("label_names", trainer.args.label_names, reason, f"set label_names to {present}")]


def parameters(trainer: Trainer) -> Mapping[str, inspect.Parameter]:
    """Return the arguments of the model's forward, under an adapter's wrapper those of the model inside."""
    return inspect.signature(_bare(trainer).forward).parameters


def forward(trainer: Trainer) -> str:
    """Name the model's forward, as an error calls it."""
    return f"{type(_bare(trainer)).__name__}.forward"


def _bare(trainer: Trainer) -> nn.Module:
    model: nn.Module = unwrap_peft_model(trainer.model)
    return model

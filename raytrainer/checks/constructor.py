"""What transformers' constructor is given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import has_length
from transformers.utils.generic import find_labels

from raytrainer.checks.binding import constructor_of_its_own
from raytrainer.checks.wording import kind_of
from raytrainer.errors import ArgumentsError, Problem


def constructor(kind: type[Trainer], bound: dict[str, Any], given: TrainingArguments) -> None:
    """Check what the constructor was given; all that is wrong is told at once.

    Args:
        kind: the trainer's class.
        bound: argument name to value.
        given: the training arguments.

    Raises:
        ArgumentsError: with every problem found.
    """
    problems = [
        *_model(kind, bound, given),
        *_data(bound, given),
        *_callables(bound, given),
        *_optimizers(bound),
        *_given(bound, given),
    ]
    if not constructor_of_its_own(kind):
        problems += _missing(bound, given)
    if problems:
        raise ArgumentsError(*problems)


def _model(kind: type[Trainer], bound: dict[str, Any], given: TrainingArguments) -> Iterator[Problem]:
    model, model_init = bound.get("model"), bound.get("model_init")
    if model is not None and model_init is not None:
        yield Problem(
            "model_init",
            model_init,
            "a model was passed as well",
            "pass model, or model_init for a new model at each train()",
        )
    if model_init is not None and not callable(model_init):
        yield Problem("model_init", model_init, "it cannot be called", "model_init=function that returns a model")
    elif model_init is not None and len(inspect.signature(model_init).parameters) > 1:
        yield Problem(
            "model_init", model_init, "it takes more than one argument", "a function of none, or of the trial"
        )
    own_loss = kind.compute_loss is not Trainer.compute_loss or bound.get("compute_loss_func") is not None
    if not own_loss and _never_has_a_loss(type(model), given.label_names or []):
        yield Problem(
            "model",
            type(model).__name__,
            "it computes hidden states and no loss",
            "a model with a head, for example AutoModelForSequenceClassification.from_pretrained(...)",
        )


def _never_has_a_loss(model: type, label_names: list[str]) -> bool:
    """Tell whether a model is one of transformers' own that take nothing of which they could compute a loss."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    # Any other class may do as it likes, under whatever name: the workers find out by a forward pass.
    if not model.__module__.startswith("transformers.") or model.__name__ not in MODEL_MAPPING_NAMES.values():
        return False
    asks = {*find_labels(model), *label_names, "return_loss"}
    return asks.isdisjoint(inspect.signature(model.forward).parameters)  # type: ignore[attr-defined]  # it is a model


def _data(bound: dict[str, Any], given: TrainingArguments) -> Iterator[Problem]:
    train, evaluation = bound.get("train_dataset"), bound.get("eval_dataset")
    if isinstance(train, str | dict):
        keys = f" with {', '.join(map(repr, train))}" if isinstance(train, dict) else ""
        yield Problem(
            "train_dataset", type(train).__name__, f"it is no dataset{keys}", "train_dataset=datasets['train']"
        )
    elif train is not None and not has_length(train) and given.max_steps <= 0:
        yield Problem(
            "args.max_steps",
            given.max_steps,
            "train_dataset has no length, so the number of steps is not known",
            "max_steps=1000 (or what you want) in the training arguments",
        )
    elif train is not None and has_length(train) and len(train) == 0:
        yield Problem("train_dataset", "0 examples", "there is nothing to train on", "a dataset with examples in it")
    if isinstance(evaluation, str):
        yield Problem("eval_dataset", evaluation, "it is a text, no dataset", "eval_dataset=datasets['validation']")


def _missing(bound: dict[str, Any], given: TrainingArguments) -> Iterator[Problem]:
    if bound.get("model") is None and bound.get("model_init") is None:
        yield Problem("model", None, "there is nothing to train", "model=AutoModelFor...from_pretrained(...)")
    if given.eval_strategy != "no" and bound.get("eval_dataset") is None:
        yield Problem(
            "args.eval_strategy",
            str(getattr(given.eval_strategy, "value", given.eval_strategy)),
            "there is no eval_dataset to evaluate on",
            "eval_dataset=..., or eval_strategy='no'",
        )


def _callables(bound: dict[str, Any], given: TrainingArguments) -> Iterator[Problem]:
    for name in ("data_collator", "compute_metrics", "compute_loss_func", "preprocess_logits_for_metrics"):
        value = bound.get(name)
        if value is not None and not callable(value):
            yield Problem(name, value, f"it is a {kind_of(value)} and cannot be called", f"{name}=a function")
    metrics = bound.get("compute_metrics")
    if given.batch_eval_metrics and callable(metrics) and not _takes(metrics, "compute_result"):
        yield Problem(
            "compute_metrics",
            getattr(metrics, "__name__", metrics),
            "with batch_eval_metrics=True it is told by compute_result when the last batch came",
            "def compute_metrics(prediction, compute_result): ...",
        )
    callbacks = bound.get("callbacks")
    if callbacks is not None and not isinstance(callbacks, list | tuple):
        yield Problem("callbacks", callbacks, f"it is a {kind_of(callbacks)}, not a list", "callbacks=[...]")
    for callback in callbacks if isinstance(callbacks, list | tuple) else ():
        if not isinstance(callback, TrainerCallback) and not _is_subclass(callback, TrainerCallback):
            yield Problem(
                "callbacks",
                callback,
                f"{kind_of(callback)} is no transformers.TrainerCallback",
                "a subclass of TrainerCallback, or an object of one",
            )


def _optimizers(bound: dict[str, Any]) -> Iterator[Problem]:
    optimizers = bound.get("optimizers") or (None, None)
    given = any(item is not None for item in optimizers)
    if given and bound.get("model_init") is not None:
        yield Problem(
            "optimizers",
            optimizers,
            "model_init makes a new model, whose parameters this optimizer does not have",
            "optimizer_cls_and_kwargs=(torch.optim.SGD, {'lr': 0.1}), or override create_optimizer",
        )
    if given and bound.get("optimizer_cls_and_kwargs") is not None:
        yield Problem(
            "optimizer_cls_and_kwargs",
            bound["optimizer_cls_and_kwargs"],
            "optimizers was passed as well",
            "pass one of the two",
        )


def _given(bound: dict[str, Any], given: TrainingArguments) -> Iterator[Problem]:
    if given.save_strategy == "best" and given.metric_for_best_model is None:
        yield Problem(
            "args.metric_for_best_model", None, "save_strategy='best' needs it", "metric_for_best_model='eval_loss'"
        )
    if "label" in (given.label_names or []) and bound.get("data_collator") is None:
        yield Problem(
            "args.label_names",
            given.label_names,
            "transformers' collator renames a column `label` to `labels`, so no batch has it",
            "call the model's argument labels",
        )


def _takes(function: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(function).parameters
    return name in parameters


def _is_subclass(value: object, kind: type) -> bool:
    return inspect.isclass(value) and issubclass(value, kind)

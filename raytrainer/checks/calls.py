"""Calls of the driver's trainer."""

from __future__ import annotations

import inspect
import os
from typing import Any

from transformers import Trainer, TrainingArguments

from raytrainer.checkpoints import on_this_machine
from raytrainer.checks.binding import constructor_of_its_own
from raytrainer.checks.wording import refuse
from raytrainer.keeping import checkpoint_store, run_folder
from raytrainer.resuming import nothing_to_resume
from raytrainer.run_record import asked_to_resume


def train_call(trainer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Check a call of ``train`` on the driver.

    Args:
        trainer: the driver's trainer.
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.

    Returns:
        The call's arguments as the workers shall have them.

    Raises:
        ArgumentsError: there is nothing to train on or to resume from.
    """
    call = inspect.signature(trainer._kind.train).bind(trainer, *args, **kwargs)
    given: TrainingArguments = trainer.args
    if _lacks(trainer, "train_dataset", "get_train_dataloader"):
        refuse("train_dataset", None, "there is nothing to train on", "train_dataset=... in the constructor")
    if call.arguments.get("trial") is not None:
        fix = "trainer.hyperparameter_search(...), which trains the trials"
        refuse("trial", call.arguments["trial"], "train() trains what the training arguments say", fix)
    resume = call.arguments.get("resume_from_checkpoint")
    output_dir = on_this_machine(given.output_dir or "")
    store = checkpoint_store(trainer._run, output_dir)
    if resume is None and asked_to_resume(run_folder(trainer._run, output_dir).path):
        # The run may have been stopped before its first checkpoint.
        call.arguments["resume_from_checkpoint"] = bool(store.manifests())
    if resume is True and not store.manifests():
        raise nothing_to_resume(store)
    if isinstance(resume, str) and "://" in resume:
        pass  # the workers look there
    elif isinstance(resume, str | os.PathLike):
        path = os.path.abspath(os.path.expanduser(os.fspath(resume)))
        if not os.path.isfile(os.path.join(path, "trainer_state.json")):
            reason = "it holds no trainer_state.json" if os.path.isdir(path) else "there is no such folder"
            refuse("resume_from_checkpoint", resume, reason, "a folder checkpoint-* that a Trainer wrote")
        call.arguments["resume_from_checkpoint"] = path
    return call.args[1:], call.kwargs


def evaluate_call(trainer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Check a call of ``evaluate`` on the driver.

    Raises:
        ArgumentsError: there is nothing to evaluate on.
    """
    given = args[0] if args else kwargs.get("eval_dataset")
    if given is None and _lacks(trainer, "eval_dataset", "get_eval_dataloader"):
        fix = "trainer.evaluate(dataset), or eval_dataset=... in the constructor"
        refuse("eval_dataset", None, "there is nothing to evaluate on", fix)


def search_call(trainer: Any) -> None:
    """Check that a driver's trainer can be searched.

    Raises:
        ArgumentsError: it has no function that makes models, or nothing to train or to evaluate on.
    """
    if vars(trainer).get("model_init") is None and not constructor_of_its_own(trainer._kind):
        fix = "model_init=function that returns a model, in the place of model="
        refuse("model_init", None, "each trial of a search begins with a new model", fix)
    if _lacks(trainer, "train_dataset", "get_train_dataloader"):
        refuse("train_dataset", None, "there is nothing to train on", "train_dataset=... in the constructor")
    if _lacks(trainer, "eval_dataset", "get_eval_dataloader"):
        fix = "eval_dataset=... in the constructor"
        refuse("eval_dataset", None, "there is nothing to evaluate on, so trials cannot be compared", fix)


def _lacks(trainer: Any, dataset: str, loader: str) -> bool:
    """Tell whether a dataset is not there, and nothing of the user's own that could make one."""
    if vars(trainer).get(dataset) is not None or constructor_of_its_own(trainer._kind):
        return False
    return getattr(trainer._kind, loader) is getattr(Trainer, loader)

"""The trainer that a function of the user's builds on every worker, and what is done with it after the training."""

from __future__ import annotations

import inspect
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from raytrainer.checkpoints import Store
from raytrainer.errors import ArgumentsError, Problem
from raytrainer.tasks.factory import Clock, Finished, last_evaluation, save_model
from raytrainer.tasks.registrable import require_loadable

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    from raytrainer.config.schema import OwnTrainer


class OwnFactory:
    """Calls ``trainer: module:function`` of a config; on every worker, and small when pickled.

    Args:
        config: names the function.
        folder: the run's.
    """

    def __init__(self, config: OwnTrainer, folder: Store) -> None:
        self.config, self._folder = config, folder

    def __call__(self, arguments: TrainingArguments) -> Trainer:
        from transformers import Trainer

        build = find_function(self.config.trainer)
        trainer = build(arguments, self.config) if takes_config(build) else build(arguments)
        if not isinstance(trainer, Trainer):
            reason = f"it returned {type(trainer).__name__}, and the workers need a transformers.Trainer"
            raise ArgumentsError(
                Problem("trainer", self.config.trainer, reason, "return Trainer(model, arguments, ...)")
            )
        require_loadable(trainer.model, self.config)
        return trainer

    def finish(self, trainer: Trainer) -> Finished:
        """Evaluate the trained model and save it; on every rank."""
        clock = Clock()
        metrics = last_evaluation(trainer)
        clock.lap("evaluation")
        model = save_model(trainer, self._folder)
        clock.lap("model")
        return Finished(metrics, model, clock.seconds)


def find_function(name: str) -> Any:
    """Return the function that ``module:function`` names; modules of the working directory count.

    Raises:
        UserError: there is no such module or function, or the module fails when it is imported.
    """
    module_name, _, path = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())

    def mistake(reason: str, fix: str) -> ArgumentsError:
        return ArgumentsError(Problem("trainer", name, reason, fix))

    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        fix = f"a module beside you ({os.getcwd()}) or an installed one, for example my_module:build"
        raise mistake(f"there is no module {error.name}", fix) from error
    except Exception as error:  # whatever the user's module does when it is imported
        raise mistake(f"importing {module_name} fails: {type(error).__name__}: {error}", "mend it") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise mistake(f"{module_name} has no {path}", "module:function, for example my_module:build")
        found = getattr(found, part)
    if not callable(found):
        raise mistake(f"it is {type(found).__name__}, nothing to call", "a function that returns a Trainer")
    return found


def takes_config(build: Any) -> bool:
    """Tell whether the function takes a second argument: the config."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    given = [p for p in inspect.signature(build).parameters.values() if p.kind in kinds]
    return len(given) > 1

"""What ``mlflow.log_model`` and ``mlflow.register`` ask for: the trained model goes to MLflow with its run."""

from __future__ import annotations

import json
from typing import Any

from raytrainer.checkpoints import Store, join
from raytrainer.config.section import MLflow
from raytrainer.errors import ArgumentsError, Problem
from raytrainer.tracking_entry import Entry, Model
from raytrainer.tracking_sink import Tracker

_FIX = "register: null and log_model: false; the model stays in the run's storage"


def put_model(tracker: Tracker, model: str, asked: MLflow, metric: tuple[str, float] | None) -> None:
    """Have a trained model written to MLflow with a run, where the config asks for that; returns at once.

    Args:
        tracker: of the run.
        model: the folder that ``save_pretrained`` wrote, a path or a URI.
        asked: the config's section.
        metric: name and value of what the model is known by; None for nothing.

    Raises:
        UserError: it is not a model of transformers' own.
    """
    if not asked.puts_model:
        return
    setting, value = ("mlflow.register", asked.register_) if asked.register_ else ("mlflow.log_model", True)
    if (reason := foreign(model)) is not None:
        raise ArgumentsError(Problem(setting, value, reason, _FIX))
    name, number = metric or (None, None)
    # A run has one model: what is put once more, after a resume, is there already.
    tracker.add(Entry(model=Model(model, tracker.run.key, asked.register_, asked.alias, name, number)))


def foreign(model: str) -> str | None:
    """Say why a model's folder is none that transformers alone can read; None where it is one."""
    import transformers

    try:
        config: dict[str, Any] = json.loads(Store(model).read("config.json"))
    except (FileNotFoundError, ValueError):
        return f"there is no config.json of transformers in {join(model)}"
    names = config.get("architectures") or ["nothing"]
    if config.get("auto_map") or not hasattr(transformers, names[0]):
        return f"the model is {names[0]}, which is not transformers' own: nobody could load it without its code"
    return None

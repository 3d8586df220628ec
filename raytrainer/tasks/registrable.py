"""Whether a model can be put into MLflow: it has to be loadable by transformers alone."""

from __future__ import annotations

from typing import Any

from raytrainer.config.section import Common
from raytrainer.errors import ArgumentsError, Problem


def require_loadable(model: Any, config: Common) -> None:
    """Refuse a model that nobody could load from MLflow, where the config asks for it to be put there.

    Args:
        model: as it is about to be trained; an adapter counts as the model that it adapts.
        config: the run's.

    Raises:
        UserError: its class is not transformers' own.
    """
    from transformers import PreTrainedModel

    asked = config.mlflow
    if asked is None or not asked.puts_model:
        return
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    kind = type(model)
    if isinstance(model, PreTrainedModel) and kind.__module__.startswith("transformers."):
        return
    setting, value = ("mlflow.register", asked.register_) if asked.register_ else ("mlflow.log_model", True)
    reason = f"the model is a {kind.__module__}.{kind.__name__}, and only transformers' own can be loaded again"
    raise ArgumentsError(Problem(setting, value, reason, "the config without it; the model stays in the run's storage"))

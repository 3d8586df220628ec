"""Where MLflow's record of a run goes: read from the arguments, the environment and the user's own MLflow calls."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from raytrainer.errors import Problem, UserError

REQUIRED_VARIABLE = "RAYTRAINER_MLFLOW_REQUIRED"
"""``false`` for a store that may be away when a training begins; what a config's ``mlflow.required`` sets."""
_TRUE = {"1", "ON", "YES", "TRUE"}
_FALSE = {"0", "OFF", "NO", "FALSE"}
_NAMED_SERVERS = {"databricks", "databricks-uc", "uc"}


@dataclass(frozen=True)
class Target:
    """One MLflow run, existing or to be made.

    Args:
        tracking_uri: the store or server; left out of ``repr``, for it may hold a password.
        experiment_name: experiment of a new run, None where ``experiment_id`` or the parent run says it.
        experiment_id: experiment of a new run, by id.
        run_id: the run to go on with, None for a new one.
        run_name: its name, None for one that MLflow makes up.
        parent_run_id: the run under which a new one appears.
        ends: whether the run is ours to end; False for one that the user's program opened.
        tags: more tags.
        flatten_params: whether nested settings become one parameter a leaf.
        max_params: parameters at most, None for all.
        system_metrics: whether MLflow's monitors watch the nodes.
        required: whether a store that cannot be used is an error before training; else it gets everything later.
    """

    tracking_uri: str = field(repr=False)
    experiment_name: str | None = None
    experiment_id: str | None = None
    run_id: str | None = None
    run_name: str | None = None
    parent_run_id: str | None = None
    ends: bool = True
    tags: dict[str, str] = field(default_factory=dict)
    flatten_params: bool = False
    max_params: int | None = None
    system_metrics: bool = False
    required: bool = True


class Asked(Protocol):
    """What a training asks of MLflow; transformers' TrainingArguments are one."""

    report_to: str | list[str] | None
    run_name: str | None


def tracking_target(arguments: Asked, environ: Mapping[str, str], cwd: str | Path) -> Target | None:
    """Say where a training is recorded, by the variables that transformers' MLflowCallback honours.

    To be called on the thread on which the user called ``train``: an active MLflow run belongs to its thread.
    ``HF_MLFLOW_LOG_ARTIFACTS`` has no effect: checkpoints stay in the run's storage.

    Args:
        arguments: the training's.
        environ: the driver's environment variables.
        cwd: the driver's working directory, for relative paths.

    Returns:
        None where ``report_to`` does not name ``mlflow`` or ``DISABLE_MLFLOW_INTEGRATION`` is true.

    Raises:
        UserError: if a variable cannot be read.
    """
    report_to = [arguments.report_to] if isinstance(arguments.report_to, str) else arguments.report_to or []
    if not {"mlflow", "all"} & set(report_to) or environ.get("DISABLE_MLFLOW_INTEGRATION", "").upper() == "TRUE":
        return None

    mlflow = sys.modules.get("mlflow")  # a program that did not import it has set nothing in it
    active = mlflow.active_run() if mlflow else None
    active_id: str | None = active.info.run_id if active else None
    # The variable speaks for mlflow.set_tracking_uri too, which sets it; MLflow's own default may differ from ours.
    uri = mlflow.get_tracking_uri() if mlflow and active else environ.get("MLFLOW_TRACKING_URI")

    nested = environ.get("MLFLOW_NESTED_RUN", "").upper() in _TRUE
    run_id = environ.get("MLFLOW_RUN_ID") or (None if nested else active_id)
    parent = (environ.get("MLFLOW_PARENT_RUN_ID") or active_id) if nested and not run_id else None
    name = environ.get("MLFLOW_EXPERIMENT_NAME")
    # mlflow.set_experiment leaves its experiment in MLFLOW_EXPERIMENT_ID.
    experiment_id = None if name else environ.get("MLFLOW_EXPERIMENT_ID")
    return Target(
        tracking_uri=absolute(uri or "sqlite:///mlflow.db", Path(cwd)),
        experiment_name=name or (None if experiment_id or parent else "Default"),
        experiment_id=experiment_id,
        run_id=run_id,
        run_name=arguments.run_name,
        parent_run_id=parent,
        ends=run_id is None or run_id != active_id,
        tags=_tags(environ.get("MLFLOW_TAGS")),
        flatten_params=environ.get("MLFLOW_FLATTEN_PARAMS", "").upper() in _TRUE,
        system_metrics=environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "").upper() in _TRUE,
        max_params=_count("MLFLOW_MAX_LOG_PARAMS", environ.get("MLFLOW_MAX_LOG_PARAMS")),
        required=environ.get(REQUIRED_VARIABLE, "").upper() not in _FALSE,
    )


def absolute(uri: str, cwd: Path) -> str:
    """Make a relative path in a tracking URI independent of the working directory.

    Args:
        uri: any tracking URI.
        cwd: what relative paths are relative to.

    Returns:
        The same store; a URI without a path of this machine is returned as it is.
    """
    if sqlite := re.fullmatch(r"(sqlite(?:\+\w+)?:///)([^?]+)(\?.*)?", uri):
        prefix, path, query = sqlite.groups(default="")
        return uri if path == ":memory:" else f"{prefix}{cwd.absolute() / path}{query}"
    if uri.startswith("file:") and not uri.startswith("file:/"):
        return (cwd.absolute() / uri.removeprefix("file:")).as_uri()
    if ":" not in uri and uri not in _NAMED_SERVERS:
        return str(cwd.absolute() / uri)
    return uri


def _tags(text: str | None) -> dict[str, str]:
    if not text:
        return {}
    try:
        tags: Any = json.loads(text)
    except json.JSONDecodeError:
        tags = None
    if not isinstance(tags, dict):
        fix = """a JSON object, such as {"team": "vision"}"""
        raise UserError(Problem("MLFLOW_TAGS", text, "it is not a JSON object of tag names and values", fix))
    return {str(name): str(value) for name, value in tags.items()}


def _count(setting: str, text: str | None) -> int | None:
    if text and not text.isdigit():
        raise UserError(Problem(setting, text, "it is not a whole number", "for example 200, or leave it out"))
    return int(text) if text else None

"""Worker: the packages that a task takes beside raytrainer's own."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from raytrainer.errors import ArgumentsError, Problem

if TYPE_CHECKING:
    from raytrainer.config.schema import Task

_OF_TASKS = {
    "text-classification": ["sklearn", "scipy"],
    "token-classification": ["sklearn"],
    "image-classification": ["PIL", "sklearn"],
}
_OF_METRICS = {
    **{"bleu": "sacrebleu", "chrf": "sacrebleu", "rouge": "rouge_score"},
    **{"wer": "jiwer", "cer": "jiwer"},
}


def require_packages(config: Task) -> None:
    """Refuse a task whose packages are not installed here, before anything is trained.

    Args:
        config: the task's.

    Raises:
        UserError: with the command that installs them.
    """
    task: str = config.task  # type: ignore[attr-defined]  # every task has its name
    wanted: list[tuple[str, Any, str]] = [("task", task, package) for package in _OF_TASKS.get(task, [])]
    chosen: list[str] = getattr(config, "metrics", [])
    wanted += [("metrics", name, _OF_METRICS[name]) for name in chosen if name in _OF_METRICS]
    if config.model.peft is not None:
        wanted.append(("model.peft", config.model.peft, "peft"))
    fix = "pip install 'raytrainer[tasks]' where the workers are"
    problems = [
        Problem(setting, value, f"it takes the package {package}, which is not installed", fix)
        for setting, value, package in wanted
        if importlib.util.find_spec(package) is None
    ]
    if problems:
        raise ArgumentsError(*problems)

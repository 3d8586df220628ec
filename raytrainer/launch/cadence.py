"""The rows of ``raytrainer check`` on time: steps, evaluations, saves, and how long it all takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from raytrainer.launch.rows import Row
from raytrainer.progress_view import duration
from raytrainer.tasks.inspection import Inspection


def cadence_rows(args: Any, found: Inspection) -> Iterator[Row]:
    """Return what happens how often.

    Args:
        args: the training arguments.
        found: by the workers.
    """
    epochs = f", {found.max_steps / found.steps_per_epoch:.3g} epochs" if found.steps_per_epoch else ""
    yield Row("steps", "ok", f"{found.max_steps:,} optimizer steps{epochs}")
    evaluations = times(args.eval_strategy.value, args.eval_steps, found)
    yield _how_often("evaluation", "eval_steps", evaluations, args.eval_strategy.value, found)
    saves = times(args.save_strategy.value, args.save_steps, found)
    yield _how_often("checkpoints", "save_steps", saves, args.save_strategy.value, found)
    logs = times(args.logging_strategy.value, args.logging_steps, found, at_end=False)
    if logs == 0:
        fix = f"training.logging_steps: {max(found.max_steps // 20, 1)}"
        reason = f"the loss is never logged: logging_steps is {args.logging_steps:g} of {found.max_steps} steps"
        yield Row("logs", "warning", f"{reason}\n  Instead: {fix}")
    if found.timing is None:
        yield Row("time", "not seen", "raytrainer check --timed trains a few steps and tells")
        return
    steps = found.timing.step * found.max_steps
    text = f"{duration(steps)} for the steps ({found.timing.step:.3g} s each)"
    if found.timing.evaluation is not None:
        every = found.timing.evaluation * ((evaluations or 0) + 1)
        text += f", {duration(every)} for {(evaluations or 0) + 1} evaluation(s)"
    yield Row("time", "ok", f"{text}; saves and the start of the workers come to it")


def times(strategy: str, every: float | None, found: Inspection, at_end: bool = True) -> int | None:
    """Return how often something happens in a training.

    Args:
        strategy: transformers' ``no``, ``steps``, ``epoch`` or ``best``.
        every: steps between two times, or below 1 the share of all steps.
        found: by the workers.
        at_end: whether it happens after the last step too, as evaluations and saves do.

    Returns:
        The number; None where it cannot be told before.
    """
    if strategy == "no":
        return 0
    if strategy == "epoch":
        return math.ceil(found.max_steps / found.steps_per_epoch) if found.steps_per_epoch else None
    if strategy == "steps" and every:
        # As transformers counts: a share is rounded up to steps.
        whole = every if every >= 1 else math.ceil(found.max_steps * every)
        return math.ceil(found.max_steps / whole) if at_end else int(found.max_steps // whole)
    return None


def _how_often(what: str, setting: str, number: int | None, strategy: str, found: Inspection) -> Row:
    if strategy == "no":
        return Row(what, "ok" if what == "evaluation" else "warning", f"none: training.{setting[:4]}_strategy is no")
    if number == 1 and strategy == "steps":
        fix = f"training.{setting}: {max(found.max_steps // 5, 1)}"
        lost = "; what fails before it begins anew" if what == "checkpoints" else ""
        return Row(what, "warning", f"one, after the last step{lost}\n  Instead: {fix}")
    if number is None:
        return Row(what, "ok", f"by training.{setting[:4]}_strategy: {strategy}")
    return Row(what, "ok", f"{number} time(s)")

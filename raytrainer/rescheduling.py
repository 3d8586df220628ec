"""A fresh schedule moved to the step at which a checkpoint was made."""

from __future__ import annotations

import warnings
from typing import Any

from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau
from transformers.optimization import GreedyLR

# Of a schedule that follows a metric: where it is. All else are settings.
_PROGRESS = {"best", "num_bad_epochs", "num_good_epochs", "cooldown_counter", "warmup_counter", "last_epoch"}
_PROGRESS |= {"reset_start", "_streaming_avg"}


def move(scheduler: Any, saved: dict[str, Any] | None, step: int, ratio: float | None) -> str | None:
    """Set a fresh scheduler, and its optimizer's learning rates, to where a checkpoint's one was.

    A schedule that is a function of the step gives what it would give had it run from the start. One that follows a
    metric keeps what it has seen, and its learning rate is the checkpoint's times ``ratio``.

    Args:
        scheduler: built from the new arguments, at step 0, over the optimizer that goes on.
        saved: the checkpoint's ``scheduler.pt``; None where it has none.
        step: the checkpoint's.
        ratio: the new base learning rate by the checkpoint's; None where that is not known.

    Returns:
        What is otherwise than the user may think; None where nothing is.
    """
    if isinstance(scheduler, ReduceLROnPlateau | GreedyLR):
        return _follow(scheduler, saved or {}, ratio)
    if not isinstance(scheduler, LRScheduler):
        scheduler.load_state_dict(saved or scheduler.state_dict())
        return f"the schedule goes on as in the checkpoint: {type(scheduler).__name__} is no LRScheduler of torch's"
    # Steps that the loss scaler left out moved no schedule. A plateau's number counts evaluations.
    done = step if saved is None or "num_bad_epochs" in saved else saved.get("last_epoch", step)
    with warnings.catch_warnings():
        # torch wants the optimizer's first step before the schedule's second.
        warnings.simplefilter("ignore", UserWarning)
        if isinstance(scheduler, LambdaLR):
            scheduler.last_epoch, scheduler._step_count = done - 1, done
            scheduler.step()
        else:
            for _ in range(done):
                scheduler.step()
    return None


def _follow(scheduler: ReduceLROnPlateau | GreedyLR, saved: dict[str, Any], ratio: float | None) -> str | None:
    if "num_bad_epochs" not in saved:
        return f"{type(scheduler).__name__} begins anew: the checkpoint's schedule followed no metric"
    state = scheduler.state_dict() | {key: value for key, value in saved.items() if key in _PROGRESS}
    if ratio is not None:
        state["_last_lr"] = [lr * ratio for lr in saved["_last_lr"]]
    scheduler.load_state_dict(state)
    for group, lr in zip(scheduler.optimizer.param_groups, state["_last_lr"], strict=True):
        group["lr"] = lr
    return (
        None if ratio is not None else "the checkpoint does not tell its base learning rate: its reductions are undone"
    )

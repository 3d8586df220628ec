"""What a worker hands over beside the result: what its callbacks know, and errors in a form that travels."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import traceback
from typing import TYPE_CHECKING, Any

from ray import cloudpickle

from raytrainer.errors import TrainingFailed
from raytrainer.order import Schedule, Settings
from raytrainer.recovery import RecoveryCallback
from raytrainer.reporting import ReportingCallback

if TYPE_CHECKING:
    from transformers import Trainer


def callback_states(trainer: Trainer) -> list[tuple[type, dict[str, bytes]]]:
    """Return what each callback knows, attribute by attribute; what cannot travel stays behind."""
    states = []
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, ReportingCallback | RecoveryCallback):
            continue
        attributes = {}
        for name, value in vars(callback).items():
            # A lock, an open file or the trainer itself: the driver's callback keeps its own.
            with contextlib.suppress(Exception):
                attributes[name] = _dump_without(trainer, value)
        states.append((type(callback), attributes))
    return states


def settings_of(trainer: Trainer) -> Settings:
    """Return what a training changed beside weights and state."""
    model: Any = trainer.model
    return Settings(
        config=_plain_entries(getattr(model, "config", None)),
        generation_config=_plain_entries(getattr(model, "generation_config", None)),
        training=model.training,
        control=dataclasses.asdict(trainer.control),
    )


def _plain_entries(config: Any) -> dict[str, Any]:
    entries = vars(config) if hasattr(config, "to_dict") else {}
    return {name: value for name, value in entries.items() if not name.startswith("_") and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def schedule_of(trainer: Trainer) -> Schedule | None:
    """Return what optimizer and scheduler are set to; None where that cannot travel."""
    if trainer.optimizer is None or trainer.lr_scheduler is None:
        return None
    deepspeed = trainer.args.deepspeed
    if isinstance(deepspeed, dict) and {"optimizer", "scheduler"} & deepspeed.keys():
        return None  # DeepSpeed's own, which the driver does not have
    groups = [{k: v for k, v in group.items() if k != "params"} for group in trainer.optimizer.param_groups]
    schedule = Schedule(groups, trainer.lr_scheduler.state_dict())
    try:
        _dump_without(trainer, schedule)
    except Exception:  # a scheduler of the user's own may hold anything; the driver then has none
        return None
    return schedule


def _dump_without(trainer: Trainer, value: object) -> bytes:
    """Pickle a value, and refuse one that holds the trainer: its model would travel with it."""

    class Pickler(cloudpickle.Pickler):
        def persistent_id(self, obj: object) -> None:
            if obj is trainer or obj is trainer.model:
                raise ValueError("the trainer stays on the worker")

    file = io.BytesIO()
    Pickler(file, protocol=5).dump(value)  # type: ignore[no-untyped-call]  # cloudpickle carries no types
    return file.getvalue()


def travelling(error: BaseException) -> BaseException:
    """Return the error itself where it can be pickled and read back, else one that says the same.

    Ray would otherwise lose the whole report of the worker that failed.
    """
    text = "".join(traceback.format_exception(error))
    error.__dict__.setdefault("_raytrainer_traceback", text)
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:
        failed = TrainingFailed(f"{type(error).__module__}.{type(error).__qualname__}: {error}")
        failed.__dict__["_raytrainer_traceback"] = text
        return failed
    return error

"""Worker: files of a checkpoint that are pickles, read for the data in them and never for code."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import re
import types
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
import transformers.trainer
from transformers import Trainer
from transformers.trainer_pt_utils import safe_globals

from raytrainer.errors import TrainingFailed
from raytrainer.snapshot import replaced

# What a resume reads, by transformers, accelerate, torch's sharded checkpoints, DeepSpeed, peft and here. Not
# training_args.bin, which nobody reads, nor what callbacks of the user's leave.
_READ = (
    *("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth", "raytrainer_state_*.pt"),
    *("pytorch_model*.bin", "adapter_model.bin", "*_states.pt", ".metadata"),
)
_READERS = (
    *("_load_from_checkpoint", "_load_optimizer_and_scheduler", "_load_scaler", "_load_rng_state"),
    "_load_best_model",
)
_METADATA = "torch.distributed.checkpoint.metadata"
# Beside that module's own classes, which hold values and do nothing.
_IN_METADATA = {
    *(("torch.distributed.checkpoint.filesystem", name) for name in ("_StorageInfo", "_StoragePrefix")),
    *((module, name) for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
    *(("torch", "Size"), ("torch.serialization", "_get_layout"), ("collections", "OrderedDict")),
}


def code_in(folder: Path, deepspeed: bool = False) -> str | None:
    """Look for a file in a checkpoint that would run something when it is read, without running it.

    Args:
        folder: the checkpoint's.
        deepspeed: whether DeepSpeed wrote a part of it.

    Returns:
        The first such file, or the first that cannot be read, and why; None where all is data.
    """
    with _allowing(deepspeed):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and any(fnmatch(path.name, pattern) for pattern in _READ):
                try:
                    _read(path)
                except Exception as error:  # pickles and archives fail in as many ways as they can be wrong
                    return f"{path.relative_to(folder)} {_reason(error)}"
    return None


def reads_data_only(trainer: Trainer) -> None:
    """Have a trainer read its checkpoints without running what is in them; before it trains, and for good.

    torch reads sharded checkpoints, and DeepSpeed its own, as pickles that may run anything.
    """
    deepspeed = trainer.is_deepspeed_enabled
    for name in _READERS:
        setattr(trainer, name, _guarded(getattr(trainer, name), deepspeed, trainer.is_fsdp_enabled))


def deepspeed_reads_data_only(trainer: Trainer) -> contextlib.AbstractContextManager[None]:
    """Inside the block the same holds for DeepSpeed, which transformers calls by a name of a module's."""
    if not trainer.is_deepspeed_enabled:
        return contextlib.nullcontext()
    read: Any = vars(transformers.trainer)["deepspeed_load_checkpoint"]
    return replaced(transformers.trainer, "deepspeed_load_checkpoint", _guarded(read, True, False))


def _guarded(read: Callable[..., Any], deepspeed: bool, sharded: bool) -> Callable[..., Any]:
    @functools.wraps(read)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        with _allowing(deepspeed), replaced(torch, "load", _data_only(torch.load)), _metadata(sharded):
            return read(*args, **kwargs)

    return guarded


def _data_only(load: Callable[..., Any]) -> Callable[..., Any]:
    def data_only(f: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return load(f, *args, **{**kwargs, "weights_only": True})
        except pickle.UnpicklingError as error:
            # Raised on this rank alone, perhaps: it has to end the group, which no mistake of the user's does.
            name = f if isinstance(f, str | os.PathLike) else "a value beside its tensors"
            raise TrainingFailed(f"a checkpoint is not read any further: {name} {_reason(error)}") from error

    return data_only


@contextlib.contextmanager
def _metadata(sharded: bool) -> Iterator[None]:
    if not sharded:
        yield
        return
    from torch.distributed.checkpoint import filesystem

    names = {**vars(pickle), "load": lambda file: _Metadata(file).load()}
    with replaced(filesystem, "pickle", types.SimpleNamespace(**names)):
        yield


class _Metadata(pickle.Unpickler):
    """Reads what torch writes beside sharded tensors: names, sizes and places."""

    def find_class(self, module: str, name: str) -> Any:
        here = (module, name) in _IN_METADATA or (module == "torch" and isinstance(vars(torch).get(name), torch.dtype))
        if not here and (module != _METADATA or "." in name):
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")
        found = super().find_class(module, name)
        if not here and getattr(found, "__module__", None) != _METADATA:  # what that module imports
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")
        return found


def _read(path: Path) -> None:
    if path.name == ".metadata":
        with open(path, "rb") as file:
            _Metadata(file).load()
    else:
        # Mapped, not read, in the format that torch has had for years: however large, it is a matter of milliseconds.
        torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


@contextlib.contextmanager
def _allowing(deepspeed: bool) -> Iterator[None]:
    """Let torch make, beside tensors and plain values, the few kinds of object that are in checkpoints."""
    kinds: list[Any] = []
    if deepspeed:
        from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
        from deepspeed.runtime.zero.config import ZeroStageEnum
        from deepspeed.utils.tensor_fragment import fragment_address

        kinds = [DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]
    with safe_globals(), torch.serialization.safe_globals(kinds):
        yield


def _reason(error: Exception) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    if found:
        return f"has code in it, {found[1]}, that would run when it is read"
    if isinstance(error, pickle.UnpicklingError):
        return "is a pickle of something else than tensors and plain values, which may run anything when it is read"
    first = (str(error).splitlines() or [""])[0]
    return f"cannot be read: {type(error).__name__}: {first}"

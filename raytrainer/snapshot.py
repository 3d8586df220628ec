"""A snapshot in memory of what transformers saves, so that the disk is written while training goes on."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import safetensors.torch
import torch

# A snapshot may take this share of the memory that is free; what is larger is written while training waits.
_SHARE = 0.5


class Snapshot:
    """Worker: the tensors of one checkpoint, copied to memory at once and written to their files later.

    Inside :meth:`taking`, ``torch.save`` of tensors and plain values and every write of a safetensors file below the
    folder are put off; whatever else is written there is written at once. Other threads and folders see nothing of it.

    Args:
        folder: the checkpoint's folder on this machine.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.path.abspath(folder)
        self._writes: list[Callable[[], None]] = []

    @contextlib.contextmanager
    def taking(self) -> Iterator[None]:
        """Put off writes of this thread inside the block."""
        owner, save = threading.get_ident(), torch.save
        serialize = getattr(safetensors.torch, "serialize_file")  # noqa: B009  # a name of its own imports

        def put_off_save(obj: object, f: Any, *args: Any, **kwargs: Any) -> None:
            if threading.get_ident() == owner and not args and not kwargs and self._is_inside(f):
                with contextlib.suppress(_Unfit):
                    copied = _Copier().copy(obj)
                    self._writes.append(lambda: _save(save, copied, f))
                    return
            save(obj, f, *args, **kwargs)

        def put_off_serialize(tensors: dict[str, Any], filename: Any, metadata: Any = None) -> None:
            if threading.get_ident() == owner and self._is_inside(filename):
                with contextlib.suppress(_Unfit):
                    copies, noted = _copy_specs(tensors), metadata and dict(metadata)
                    self._writes.append(lambda: _serialize(serialize, copies, filename, noted))
                    return
            serialize(tensors, filename, metadata=metadata)

        with (
            replaced(torch, "save", put_off_save),
            replaced(safetensors.torch, "serialize_file", put_off_serialize),
        ):
            yield

    def write(self) -> None:
        """Write what was put off; from any thread, once. Memory is given back file by file."""
        while self._writes:
            self._writes.pop(0)()

    def _is_inside(self, file: Any) -> bool:
        return isinstance(file, str | os.PathLike) and os.path.abspath(file).startswith(self._folder + os.sep)


@contextlib.contextmanager
def replaced(module: object, name: str, value: object) -> Iterator[None]:
    """Let a module's name mean something else inside the block."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def _save(save: Callable[..., None], obj: object, path: Any) -> None:
    # To a file object: given a path, torch holds the interpreter's lock while the disk is written.
    with open(path, "wb", buffering=0) as file:
        save(obj, file)


def _serialize(
    serialize: Callable[..., None], copies: tuple[dict[str, Any], list[Any]], path: Any, metadata: Any
) -> None:
    specs, memory = copies
    serialize(specs, path, metadata=metadata)
    memory.clear()  # what the specifications point to: not before they are written


class _Unfit(Exception):
    """It cannot be copied so that the file comes out the same."""


class _Copier:
    """Copies nested plain values; tensors that share memory share it afterwards, as torch saves them."""

    def __init__(self) -> None:
        self._storages: dict[int, torch.UntypedStorage] = {}

    def copy(self, value: Any) -> Any:
        kind = type(value)
        if kind is torch.Tensor:
            return self._tensor(value)
        if isinstance(value, dict) and kind.__module__ in ("builtins", "collections"):
            return self._dict(value)
        if kind in (list, tuple, set):
            return kind(self.copy(item) for item in value)
        if kind is np.ndarray and not value.dtype.hasobject:
            return value.copy()
        if value is None or kind in (bool, int, float, complex, str, bytes, torch.dtype, torch.Size, torch.device):
            return value
        raise _Unfit

    def _dict(self, value: dict[Any, Any]) -> dict[Any, Any]:
        # A copy has what is saved beside the items: a defaultdict's factory, the versions in a module's state_dict.
        copied = copy.copy(value)
        copied.clear()
        for key, item in value.items():
            copied[self.copy(key)] = self.copy(item)
        if beside := getattr(value, "__dict__", None):
            vars(copied).update(self.copy(beside))
        return copied

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_conj() or tensor.is_neg():
            raise _Unfit
        if tensor.device.type not in ("cpu", "cuda") or vars(tensor):
            raise _Unfit
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._storages:
            _require_room(storage.nbytes())
            # The device is part of what torch saves, and transformers reads it back to the CPU or to its own device.
            self._storages[storage.data_ptr()] = storage.cpu() if storage.device.type != "cpu" else storage.clone()
        copied = torch.empty(0, dtype=tensor.dtype)
        copied.set_(self._storages[storage.data_ptr()], tensor.storage_offset(), tensor.size(), tensor.stride())
        return copied.requires_grad_(tensor.requires_grad)


def _copy_specs(tensors: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Copy the memory that a safetensors file is made of; the list holds it."""
    if not all(hasattr(spec, "data_ptr") for spec in tensors.values()):
        return tensors, []  # an older safetensors hands over bytes, which are copies
    _require_room(sum(spec.data_len for spec in tensors.values()))
    copies, memory = {}, []
    for name, spec in tensors.items():
        buffer = np.empty(spec.data_len, np.uint8)
        ctypes.memmove(buffer.ctypes.data, spec.data_ptr, spec.data_len)
        memory.append(buffer)
        copies[name] = safetensors.TensorSpec(
            dtype=_dtypes()[spec.dtype], shape=spec.shape, data_ptr=buffer.ctypes.data, data_len=spec.data_len
        )
    return copies, memory


@functools.cache
def _dtypes() -> dict[str, str]:
    """Map safetensors' names of types (``F32``), which its constructor does not take, to torch's (``float32``)."""
    names = {}
    for name in {str(item).removeprefix("torch.") for item in vars(torch).values() if isinstance(item, torch.dtype)}:
        with contextlib.suppress(safetensors.SafetensorError):  # a type that safetensors does not have
            names[safetensors.TensorSpec(dtype=name, shape=[0], data_ptr=0, data_len=0).dtype] = name
    return names


def _require_room(size: int) -> None:
    if size > _SHARE * psutil.virtual_memory().available:
        raise _Unfit

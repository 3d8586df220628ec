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
import safetensors.torch
import torch
from ray._private.utils import estimate_available_memory

# A snapshot may take this share of the memory that is free, in the container where there is one; what is larger is
# written while training waits.
_SHARE = 0.5


class Memory:
    """Memory that is kept from one snapshot to the next: new memory costs more than the copy that goes into it."""

    def __init__(self) -> None:
        self._free: dict[int, list[torch.Tensor]] = {}

    def take(self, size: int) -> torch.Tensor:
        """Return ``size`` bytes, uint8, with anything in them."""
        free = self._free.get(size)
        return free.pop() if free else torch.empty(size, dtype=torch.uint8)

    def give_back(self, memory: torch.Tensor) -> None:
        """Take back what nobody uses any more."""
        self._free.setdefault(memory.numel(), []).append(memory)

    def size(self) -> int:
        """Return how many bytes are free in it."""
        return sum(size * len(free) for size, free in self._free.items())


class Snapshot:
    """Worker: the tensors of one checkpoint, copied to memory at once and written to their files later.

    Inside :meth:`taking`, ``torch.save`` of tensors and plain values and every write of a safetensors file below the
    folder are put off; whatever else is written there is written at once. Other threads and folders see nothing of it.

    Args:
        folder: the checkpoint's folder on this machine.
        memory: of the snapshots before, to be used again.
    """

    def __init__(self, folder: Path, memory: Memory | None = None) -> None:
        self._folder = os.path.abspath(folder)
        self._memory = memory or Memory()
        self._taken: list[torch.Tensor] = []
        self._writes: list[Callable[[], None]] = []
        self._room = 0.0

    @contextlib.contextmanager
    def taking(self) -> Iterator[None]:
        """Put off writes of this thread inside the block."""
        self._room = self._memory.size() + _SHARE * estimate_available_memory()
        owner, save = threading.get_ident(), torch.save
        serialize = getattr(safetensors.torch, "serialize_file")  # noqa: B009  # a name of its own imports

        def put_off_save(obj: object, f: Any, *args: Any, **kwargs: Any) -> None:
            if threading.get_ident() == owner and not args and not kwargs and self._is_inside(f):
                with contextlib.suppress(_Unfit):
                    copied = _Copier(self._take).copy(obj)
                    self._writes.append(lambda: _save(save, copied, f))
                    return
            save(obj, f, *args, **kwargs)

        def put_off_serialize(tensors: dict[str, Any], filename: Any, metadata: Any = None) -> None:
            if threading.get_ident() == owner and self._is_inside(filename):
                with contextlib.suppress(_Unfit):
                    copies, noted = _copy_specs(tensors, self._take), metadata and dict(metadata)
                    self._writes.append(lambda: serialize(copies, filename, metadata=noted))
                    return
            serialize(tensors, filename, metadata=metadata)

        with (
            replaced(torch, "save", put_off_save),
            replaced(safetensors.torch, "serialize_file", put_off_serialize),
        ):
            yield

    def write(self) -> None:
        """Write what was put off; from any thread, once."""
        while self._writes:
            self._writes.pop(0)()
        while self._taken:
            self._memory.give_back(self._taken.pop())

    def _take(self, size: int) -> torch.Tensor:
        if size > self._room:
            raise _Unfit
        self._room -= size
        self._taken.append(self._memory.take(size))
        return self._taken[-1]

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


class _Unfit(Exception):
    """It cannot be copied so that the file comes out the same."""


class _Copier:
    """Copies nested plain values; tensors that share memory share it afterwards, as torch saves them."""

    def __init__(self, take: Callable[[int], torch.Tensor]) -> None:
        self._take = take
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
            # The device is part of what torch saves, and transformers reads it back to the CPU or to its own device.
            copied_storage = self._take(storage.nbytes()).untyped_storage()
            copied_storage.copy_(storage)
            self._storages[storage.data_ptr()] = copied_storage
        copied = torch.empty(0, dtype=tensor.dtype)
        copied.set_(self._storages[storage.data_ptr()], tensor.storage_offset(), tensor.size(), tensor.stride())
        return copied.requires_grad_(tensor.requires_grad)


def _copy_specs(tensors: dict[str, Any], take: Callable[[int], torch.Tensor]) -> dict[str, Any]:
    """Copy the memory that a safetensors file is made of."""
    if not all(hasattr(spec, "data_ptr") for spec in tensors.values()):
        return tensors  # an older safetensors hands over bytes, which are copies
    copies = {}
    for name, spec in tensors.items():
        address = take(spec.data_len).data_ptr()
        ctypes.memmove(address, spec.data_ptr, spec.data_len)
        copies[name] = safetensors.TensorSpec(
            dtype=_dtypes()[spec.dtype], shape=spec.shape, data_ptr=address, data_len=spec.data_len
        )
    return copies


@functools.cache
def _dtypes() -> dict[str, str]:
    """Map safetensors' names of types (``F32``), which its constructor does not take, to torch's (``float32``)."""
    names = {}
    for name in {str(item).removeprefix("torch.") for item in vars(torch).values() if isinstance(item, torch.dtype)}:
        with contextlib.suppress(safetensors.SafetensorError):  # a type that safetensors does not have
            names[safetensors.TensorSpec(dtype=name, shape=[0], data_ptr=0, data_len=0).dtype] = name
    return names

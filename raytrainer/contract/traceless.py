"""Using live objects and leaving them as they were: random state, attributes, buffers, training flags."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

_DEPTH = 3
_OPAQUE = (type, ModuleType, FunctionType, MethodType, BuiltinFunctionType, nn.Module, torch.Tensor)


@contextmanager
def objects_untouched(*roots: object, device: torch.device) -> Iterator[None]:
    """Put back, on leaving, the attributes and random generators of objects and the global random state.

    A dataset or a collator may hold its own generator or open a file at first use (which a forked DataLoader worker
    must not inherit). What is changed in place, other than a generator, is not put back.

    Args:
        roots: the objects, followed three attributes deep.
        device: the device whose random state is kept beside the CPU's.
    """
    objects = _reachable(roots)
    held = _flat([*objects, *(value for item in objects for value in vars(item).values())])
    undo = [*_global_generators(device), *(put_back for value in held if (put_back := _generator(value)))]
    undo += [partial(_restore, vars(item), dict(vars(item))) for item in objects]
    try:
        yield
    finally:
        for put_back in undo:
            put_back()


@contextmanager
def model_untouched(model: nn.Module, device: torch.device, *, parameters: bool = False) -> Iterator[None]:
    """Put back, on leaving, every submodule's training flag, attributes and buffers and the global random state.

    Args:
        model: the model.
        device: the device whose random state is kept beside the CPU's.
        parameters: put the parameters back too, for which a copy of them is held.
    """
    undo = _global_generators(device)
    if parameters:
        undo += [partial(_refill, parameter, parameter.detach().clone()) for parameter in model.parameters()]
    for module in model.modules():
        undo.append(partial(setattr, module, "training", module.training))
        undo += [partial(_restore, held, dict(held)) for held in (vars(module), module._buffers)]
        undo += [partial(_refill, buffer, buffer.clone()) for buffer in module._buffers.values() if buffer is not None]
    try:
        yield
    finally:
        for put_back in undo:
            put_back()


def _global_generators(device: torch.device) -> list[Callable[[], object]]:
    undo: list[Callable[[], object]] = [
        partial(random.setstate, random.getstate()),
        partial(np.random.set_state, np.random.get_state()),
        partial(torch.set_rng_state, torch.get_rng_state()),
    ]
    if device.type in ("cuda", "xpu"):
        accelerator = torch.get_device_module(device)
        undo.append(partial(accelerator.set_rng_state, accelerator.get_rng_state(device), device))
    return undo


def _generator(value: object) -> Callable[[], object] | None:
    match value:
        case random.Random():
            return partial(value.setstate, value.getstate())
        case np.random.Generator():
            return partial(setattr, value.bit_generator, "state", value.bit_generator.state)
        case np.random.RandomState():
            return partial(value.set_state, value.get_state())
        case torch.Generator():
            return partial(value.set_state, value.get_state())
    return None


def _reachable(roots: tuple[object, ...]) -> list[Any]:
    seen: dict[int, object] = {}
    front = list(roots)
    for _ in range(_DEPTH + 1):
        front = [item for item in _flat(front) if hasattr(item, "__dict__") and not isinstance(item, _OPAQUE)]
        front = [item for item in front if id(item) not in seen]
        seen.update((id(item), item) for item in front)
        front = [value for item in front for value in vars(item).values()]
    return list(seen.values())


def _flat(values: list[Any]) -> list[Any]:
    flat: list[Any] = []
    for value in values:
        # What is longer is data; going through a list of a million examples would take its time.
        if isinstance(value, list | tuple | dict) and len(value) < 100:
            flat += value.values() if isinstance(value, dict) else value
        else:
            flat.append(value)
    return flat


def _restore(held: dict[str, Any], before: dict[str, Any]) -> None:
    for name in held.keys() - before.keys():
        del held[name]
    held.update({name: value for name, value in before.items() if name not in held or held[name] is not value})


def _refill(tensor: torch.Tensor, before: torch.Tensor) -> None:
    if not torch.equal(tensor, before):
        with torch.no_grad():
            tensor.copy_(before)

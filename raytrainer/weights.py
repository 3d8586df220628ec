"""A model's weights as plain bytes: collected on the workers, loaded into a module anywhere."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raytrainer.pickling import Bytes

if TYPE_CHECKING:
    import torch
    from transformers import Trainer


@dataclass(frozen=True)
class Weight:
    """One tensor of a state dict.

    Args:
        data: its elements in row-major order, as bytes (NumPy has no bfloat16).
        dtype: torch's name of its type, for example ``bfloat16``.
        shape: its shape.
    """

    data: Bytes
    dtype: str
    shape: tuple[int, ...]


Weights = dict[str, Any]
"""State dict name to Weight; to what a module's get_extra_state returned for a name that ends in ``_extra_state``."""


def collect_weights(trainer: Trainer) -> Weights | None:
    """Collect the weights of a trainer's model; on every rank, because sharded models are gathered.

    Args:
        trainer: a built trainer, on a worker.

    Returns:
        State dict name to weight; None on ranks that do not hold the full weights.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    else:
        model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
        state = model.state_dict() if trainer.is_world_process_zero() else None
    return {name: _to_bytes(value) for name, value in state.items()} if state else None


def load_weights(module: torch.nn.Module, weights: Weights) -> None:
    """Copy weights into a module, in place: its parameters stay the same objects on the same devices.

    Args:
        module: a module with the same names and shapes.
        weights: as :func:`collect_weights` gave them.

    Raises:
        RuntimeError: names or shapes differ.
    """
    with warnings.catch_warnings():
        # The arrays may be read-only views of the object store; load_state_dict only reads them.
        warnings.filterwarnings("ignore", message="The given (NumPy array|buffer) is not writable")
        module.load_state_dict({name: _to_tensor(weight) for name, weight in weights.items()})


def differences(module: Any, weights: Weights) -> list[str]:
    """Say of each name what keeps a module from holding these weights; empty where it has the same names and shapes."""
    here = {name: tuple(getattr(value, "shape", ())) for name, value in module.state_dict().items()}
    given = {name: getattr(weight, "shape", ()) for name, weight in weights.items()}
    names = [name for name in {**given, **here} if given.get(name) != here.get(name)]
    return [f"{name} {given.get(name, 'absent')} trained, {here.get(name, 'absent')} here" for name in names]


def _to_bytes(tensor: Any) -> Any:
    import torch

    if not isinstance(tensor, torch.Tensor):
        return tensor
    plain = tensor.detach().cpu().contiguous()
    data = plain.reshape(-1).view(torch.uint8).numpy()
    return Weight(data, str(plain.dtype).removeprefix("torch."), tuple(plain.shape))


def _to_tensor(weight: Any) -> Any:
    import torch

    if not isinstance(weight, Weight):
        return weight
    dtype = getattr(torch, weight.dtype)
    return torch.from_numpy(weight.data).view(dtype).reshape(weight.shape)

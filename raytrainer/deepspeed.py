"""DeepSpeed on a worker: what it needs there, and on CPU workers, where accelerate leaves it out."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from raytrainer.environment import environment
from raytrainer.errors import ArgumentsError, Problem, ResourcesError

if TYPE_CHECKING:
    import torch
    from transformers import Trainer, TrainingArguments


def require_deepspeed(config: dict[str, Any] | None, gather: Callable[[bool], list[bool]]) -> None:
    """Refuse a configuration where a worker cannot follow it; on every rank, which all raise alike.

    Args:
        config: the configuration, None without DeepSpeed.
        gather: exchanges items between ranks.

    Raises:
        ResourcesError: DeepSpeed is not installed on some worker.
    """
    if config is None:
        return
    missing = [rank for rank, there in enumerate(gather(_is_installed())) if not there]
    if missing:
        workers = ", ".join(map(str, missing))
        raise ResourcesError(
            Problem(
                setting="args.deepspeed",
                value=config,
                reason=f"DeepSpeed is not installed on the workers of rank {workers}",
                fix='pip install "raytrainer[deepspeed]" in the workers\' environment, or leave deepspeed out',
            )
        )


def _is_installed() -> bool:
    # As transformers looks: a folder that is called deepspeed does not count.
    try:
        importlib.metadata.version("deepspeed")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@contextlib.contextmanager
def deepspeed_on_cpu(arguments: TrainingArguments) -> Iterator[None]:
    """Have accelerate take DeepSpeed on CPU workers, for the trainer that is built inside the block.

    accelerate drops the setting on CPUs without a word, and the workers would train under DDP. It goes by the variable
    that has put its process group on gloo; once that group is there, the variable says nothing else.

    Args:
        arguments: built on this worker; without ``deepspeed``, or with an accelerator, nothing happens.
    """
    if arguments.deepspeed_plugin is None or arguments.distributed_state.device.type != "cpu":
        yield
        return
    # For as long as the worker lives: DeepSpeed looks when it is imported, and would take a GPU that is there.
    os.environ["DS_ACCELERATOR"] = "cpu"
    from deepspeed import comm

    # It joins the group that is there. On GPUs accelerate does so; a model that is made split needs it first.
    comm.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    with environment({"ACCELERATE_USE_CPU": "false"}):
        yield


@contextlib.contextmanager
def put_together(model: torch.nn.Module) -> Iterator[None]:
    """Put a model together that ZeRO 3 made split, inside the block; what rank 0 makes of it is what all have then.

    Args:
        model: on every rank; where it is whole, nothing happens.
    """
    split = [parameter for parameter in model.parameters() if hasattr(parameter, "ds_id")]
    if not split:
        yield
        return
    from deepspeed import zero

    with zero.GatheredParameters(split, modifier_rank=0):
        yield


def require_as_many_workers(trainer: Trainer, wrote: int) -> None:
    """Refuse to resume where DeepSpeed could not read its part of the checkpoint.

    Args:
        trainer: built on this worker; without DeepSpeed, nothing happens.
        wrote: how many workers wrote the checkpoint.

    Raises:
        ArgumentsError: there are more or fewer now.
    """
    if trainer.is_deepspeed_enabled and trainer.args.world_size != wrote:
        reason = f"a checkpoint of DeepSpeed's can be read only by as many workers as wrote it, {wrote}"
        fix = f"ScalingConfig(num_workers={wrote})"
        raise ArgumentsError(Problem("scaling_config.num_workers", trainer.args.world_size, reason, fix))

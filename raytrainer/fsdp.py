"""FSDP where transformers and accelerate leave it out: on CPU workers, and in an evaluation without a training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from raytrainer.environment import environment
from raytrainer.errors import Problem, ResourcesError

if TYPE_CHECKING:
    import torch
    from transformers import Trainer, TrainingArguments


@contextlib.contextmanager
def sharding_on_cpu(arguments: TrainingArguments) -> Iterator[None]:
    """Have accelerate take FSDP on several CPU workers, for the trainer that is built inside the block.

    accelerate turns to FSDP where it finds several accelerators. On several CPUs it drops the setting without a word,
    and every rank would train the whole model. Changed is the name that its state goes by, until the Accelerator is
    built and calls it FSDP; the device stays the CPU, the process group gloo.

    Args:
        arguments: built on this worker; without ``fsdp``, or with an accelerator, nothing happens.

    Raises:
        ResourcesError: FSDP's version 1 is asked for.
    """
    from accelerate import DistributedType

    plugin, state = arguments.fsdp_plugin_args, arguments.distributed_state
    if not plugin or arguments.world_size == 1 or state.distributed_type != DistributedType.MULTI_CPU:
        yield
        return
    if plugin["fsdp_version"] == 1:
        raise ResourcesError(
            Problem(
                setting="fsdp_config['version']",
                value=1,
                reason="a CPU worker dies when FSDP 1 gathers the full weights",
                fix="leave it out: FSDP 2 runs on CPUs",
            )
        )
    # The mesh to shard over, which accelerate makes of its own device. torch's default mesh is of the accelerator
    # that it was compiled for: with a CUDA build, of GPUs that these workers do not have.
    mesh = {"ACCELERATE_USE_PARALLELISM_CONFIG": "true", "PARALLELISM_CONFIG_DP_SHARD_SIZE": str(arguments.world_size)}
    state.distributed_type = DistributedType.MULTI_GPU
    with environment(mesh):
        yield


def shard_for_evaluation(trainer: Trainer) -> None:
    """Shard the model of a trainer that will not train, where transformers' own evaluation cannot: under FSDP 2.

    accelerate shards a model only together with its optimizer, and an evaluation has none.

    Args:
        trainer: built on this worker, with the weights to evaluate; without FSDP 2, nothing happens.
    """
    if not (trainer.is_fsdp_enabled and trainer.accelerator.is_fsdp2):
        return
    from torch.distributed.fsdp import register_fsdp_forward_method
    from torch.optim import SGD

    model = cast("torch.nn.Module", trainer.model)
    # It has no state, and no step is taken.
    model, _ = trainer.accelerator.prepare(model, SGD(model.parameters()))
    if hasattr(model, "generate"):
        register_fsdp_forward_method(model, "generate")
    trainer.model = trainer.model_wrapped = model

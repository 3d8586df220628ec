"""The global batch, shared by a number of workers that may change: which numbers divide it, and what stands against it.

An optimizer step takes ``global // per_device`` of the sampler's batches in their order, however many workers deal them
out among themselves: each takes ``global // (per_device * workers)`` of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from raytrainer.errors import Problem

if TYPE_CHECKING:
    from ray.train.v2.api.config import ScalingConfig

_SETTING = "global_train_batch_size"
_NUMBER = "scaling_config.num_workers"
_SHOWN = 8


def global_batch(asked: int | None, scaling: ScalingConfig, arguments: Mapping[str, Any]) -> int | None:
    """Return the examples of an optimizer step over all workers.

    Args:
        asked: what the user asked for.
        scaling: how many workers.
        arguments: fields of the training arguments.

    Returns:
        What was asked for; else, with workers that come and go, what the most of them would take; else None: with a
        fixed number of workers it follows from the training arguments.
    """
    if asked is not None or not scaling.elasticity_enabled:
        return asked
    per_device, steps = arguments["per_device_train_batch_size"], arguments["gradient_accumulation_steps"]
    return int(per_device * steps * scaling.max_workers)


def group_sizes(examples: int | None, scaling: ScalingConfig, arguments: Mapping[str, Any]) -> list[int]:
    """Return the numbers of workers that the group may have, in ascending order; none where none divides the batch.

    Args:
        examples: the global batch, None where it follows from the number of workers.
        scaling: how many workers.
        arguments: fields of the training arguments.
    """
    numbers = range(scaling.min_workers, scaling.max_workers + 1)
    if examples is None:
        return list(numbers)
    return [size for size in _dividing(examples, arguments["per_device_train_batch_size"]) if size in numbers]


def nearest_size(sizes: list[int], possible: int) -> int:
    """Return the largest size that is possible, 0 where none is."""
    return max((size for size in sizes if size <= possible), default=0)


def accumulation_steps(examples: int, per_device: int, workers: int) -> int:
    """Return how many batches each worker takes in an optimizer step.

    Args:
        examples: the global batch.
        per_device: examples of a worker's batch.
        workers: how many there are.
    """
    steps, left = divmod(examples, per_device * workers)
    assert steps and not left, f"{workers} workers with batches of {per_device} cannot share {examples} examples"
    return steps


def batch_problems(asked: int | None, scaling: ScalingConfig, arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what stands against sharing a global batch; nothing does where it follows from a fixed number of workers.

    Args:
        asked: what the user asked for.
        scaling: how many workers.
        arguments: fields of the training arguments.
    """
    examples = global_batch(asked, scaling, arguments)
    if examples is None:
        return
    per_device = arguments["per_device_train_batch_size"]
    if isinstance(examples, bool) or not isinstance(examples, int) or examples < 1:
        yield Problem(_SETTING, asked, "it is no number of examples", f"{_SETTING}={8 * per_device}, for example")
    elif examples % per_device:
        down = examples // per_device * per_device or per_device
        reason = f"it is no multiple of per_device_train_batch_size={per_device}"
        yield Problem(_SETTING, asked, reason, f"{_SETTING}={down}, or another per_device_train_batch_size")
    elif scaling.min_workers > 0:
        yield from _number_problems(asked, examples, scaling, arguments)
    yield from _counting_problems(arguments)
    if scaling.elasticity_enabled:
        yield from _order_problems(scaling, arguments)


def _dividing(examples: int, per_device: int) -> list[int]:
    batches = examples // per_device
    return [size for size in range(1, batches + 1) if batches % size == 0]


def _number_problems(
    asked: int | None, examples: int, scaling: ScalingConfig, arguments: Mapping[str, Any]
) -> Iterator[Problem]:
    per_device, steps = arguments["per_device_train_batch_size"], arguments["gradient_accumulation_steps"]
    sizes = group_sizes(examples, scaling, arguments)
    if not sizes:
        fit = _dividing(examples, per_device)
        near = max((size for size in fit if size <= scaling.max_workers), default=1)
        shown = ", ".join(map(str, fit[:_SHOWN])) + (", ..." if len(fit) > _SHOWN else "")
        number = (near, scaling.max_workers) if scaling.elasticity_enabled else near
        yield Problem(
            _NUMBER,
            scaling.num_workers,
            f"{examples} examples a step in batches of {per_device} can be shared by {shown} workers",
            f"ScalingConfig(num_workers={number}), or another {_SETTING}",
        )
    # Beside what was asked for, another accumulation than what follows is a contradiction; 1 is the default.
    elif asked is not None and steps not in (1, follows := accumulation_steps(examples, per_device, sizes[-1])):
        yield Problem(
            "args.gradient_accumulation_steps",
            steps,
            f"{_SETTING}={asked} leaves {follows} to each of {sizes[-1]} workers",
            "leave it out: it follows from the number of workers",
        )


def _counting_problems(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what makes the examples of a step more or fewer than batch times accumulation times workers."""
    accelerator = arguments["accelerator_config"]
    if arguments["auto_find_batch_size"]:
        reason = "it makes each worker's batch smaller in the middle of a training, and with it the global batch"
        yield Problem("args.auto_find_batch_size", True, reason, "a per_device_train_batch_size that fits")
    if accelerator.split_batches:
        reason = "each worker would get a part of a batch where the global batch is counted in whole ones"
        yield Problem("args.accelerator_config", {"split_batches": True}, reason, "leave split_batches out")
    if "num_steps" in (accelerator.gradient_accumulation_kwargs or {}):
        kwargs = accelerator.gradient_accumulation_kwargs
        reason = "how often each worker accumulates follows from the global batch"
        yield Problem("args.accelerator_config", {"gradient_accumulation_kwargs": kwargs}, reason, "leave it out")
    parallel = arguments["parallelism_config"]
    if parallel is not None and parallel.non_data_parallel_size > 1:
        reason = "workers that compute on the same examples are not counted yet"
        yield Problem("args.parallelism_config", parallel, reason, f"leave {_SETTING} out, with a fixed num_workers")


def _order_problems(scaling: ScalingConfig, arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """Find what would make sample order or schedule depend on how many workers there are."""
    accelerator, strategy = arguments["accelerator_config"], arguments["train_sampling_strategy"]
    if scaling.min_workers == 0:
        fix = f"ScalingConfig(num_workers=(1, {scaling.max_workers}))"
        yield Problem(_NUMBER, scaling.num_workers, "with 0 there is nobody to train", fix)
    if scaling.use_tpu:
        reason = "TPU workers come and go by whole slices, which has not been tried"
        yield Problem(_NUMBER, scaling.num_workers, reason, f"ScalingConfig(num_workers={scaling.max_workers})")
    if strategy == "group_by_length":
        reason = "which examples it groups depends on the accumulation, and so on how many workers there are"
        yield Problem("args.train_sampling_strategy", strategy, reason, "'batch_rebalance', 'random' or 'sequential'")
    if strategy == "random" and not accelerator.use_seedable_sampler:
        reason = "without it the order of an epoch cannot be drawn again by another number of workers"
        yield Problem("args.accelerator_config", {"use_seedable_sampler": False}, reason, "leave it out")
    if accelerator.dispatch_batches is not None:
        reason = "which batches are skipped on resuming would depend on how many workers there are"
        dispatch = {"dispatch_batches": accelerator.dispatch_batches}
        yield Problem("args.accelerator_config", dispatch, reason, "leave dispatch_batches out")
    if arguments["dataloader_drop_last"]:
        reason = "how many steps an epoch has would depend on how many workers there are"
        yield Problem("args.dataloader_drop_last", True, reason, "leave it out, and cut the dataset to whole steps")
    if arguments["ignore_data_skip"]:
        reason = "after each change of the workers the epoch would begin anew"
        yield Problem("args.ignore_data_skip", True, reason, "leave it out")
    if arguments["deepspeed"]:
        reason = "a checkpoint of DeepSpeed's can be read only by as many workers as wrote it"
        fix = f"ScalingConfig(num_workers={scaling.max_workers}), or fsdp"
        yield Problem("args.deepspeed", arguments["deepspeed"], reason, fix)

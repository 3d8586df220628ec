"""A global batch shared by a number of workers that may change, and what accelerate makes of it."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from ray.train.v2.api.config import ScalingConfig
from torch.utils.data import DataLoader, RandomSampler
from transformers.trainer_pt_utils import BatchRebalanceSampler

from raytrainer import RayTrainingArguments
from raytrainer.elastic import accumulation_steps, batch_problems, global_batch, group_sizes, nearest_size
from raytrainer.resizing import SharingPolicy


def fields(**changes: Any) -> dict[str, Any]:
    return vars(RayTrainingArguments(output_dir="out", report_to="none", **changes))


def scaling(workers: int | tuple[int, int]) -> ScalingConfig:
    return ScalingConfig(num_workers=workers)


@pytest.mark.parametrize(
    ("asked", "workers", "expected"),
    [(None, 4, None), (48, 4, 48), (None, (1, 4), 8 * 2 * 4), (48, (1, 4), 48)],
)
def test_the_global_batch_is_what_was_asked_for_or_what_the_most_workers_would_take(
    asked: int | None, workers: int | tuple[int, int], expected: int | None
) -> None:
    arguments = fields(per_device_train_batch_size=8, gradient_accumulation_steps=2)
    assert global_batch(asked, scaling(workers), arguments) == expected


@pytest.mark.parametrize(
    ("examples", "workers", "sizes"),
    [
        (None, 3, [3]),
        (48, 3, [3]),
        (48, (1, 8), [1, 2, 3, 4, 6]),
        (48, (4, 5), [4]),
        (48, (7, 11), []),
        (40, 3, []),
        (8, (1, 4), [1, 2]),
        (2, (1, 4), []),
    ],
)
def test_the_group_has_sizes_that_divide(
    examples: int | None, workers: int | tuple[int, int], sizes: list[int]
) -> None:
    assert group_sizes(examples, scaling(workers), fields(per_device_train_batch_size=4)) == sizes


@pytest.mark.parametrize(("possible", "size"), [(0, 0), (1, 0), (2, 2), (3, 2), (5, 4), (9, 6)])
def test_the_nearest_size_below_is_taken(possible: int, size: int) -> None:
    assert nearest_size([2, 4, 6], possible) == size


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 6, 12])
def test_accumulation_follows(workers: int) -> None:
    assert accumulation_steps(48, 4, workers) * 4 * workers == 48


@pytest.mark.parametrize(
    ("asked", "workers", "setting", "reason", "fix"),
    [
        (48, 5, "scaling_config.num_workers", "shared by 1, 2, 3, 4, 6, 12 workers", "ScalingConfig(num_workers=4)"),
        (48, (5, 5), "scaling_config.num_workers", "1, 2, 3, 4, 6, 12", "ScalingConfig(num_workers=(4, 5))"),
        (4 * 720, 7, "scaling_config.num_workers", "1, 2, 3, 4, 5, 6, 8, 9, ...", "num_workers=6"),
        (4, (2, 4), "scaling_config.num_workers", "shared by 1 workers", "num_workers=(1, 4)"),
        (50, 2, "global_train_batch_size", "per_device_train_batch_size=4", "global_train_batch_size=48"),
        (3, 2, "global_train_batch_size", "per_device_train_batch_size=4", "global_train_batch_size=4"),
        (0, 2, "global_train_batch_size", "no number of examples", "=32"),
        ("48", 2, "global_train_batch_size", "no number of examples", "=32"),
        (True, 2, "global_train_batch_size", "no number of examples", "=32"),
    ],
)
def test_what_cannot_be_shared_is_told_with_what_can(
    asked: Any, workers: int | tuple[int, int], setting: str, reason: str, fix: str
) -> None:
    arguments = fields(per_device_train_batch_size=4)
    (problem,) = batch_problems(asked, scaling(workers), arguments)
    assert problem.setting == setting
    assert reason in problem.reason
    assert fix in problem.fix


def test_an_accumulation_that_contradicts_is_a_problem() -> None:
    def problems(steps: int) -> list[str]:
        arguments = fields(per_device_train_batch_size=4, gradient_accumulation_steps=steps)
        return [problem.setting for problem in batch_problems(48, scaling(3), arguments)]

    assert problems(1) == problems(4) == []
    assert problems(2) == ["args.gradient_accumulation_steps"]


@pytest.mark.parametrize(
    "changes",
    [
        {"train_sampling_strategy": "sequential"},
        {"train_sampling_strategy": "batch_rebalance"},
        {"train_sampling_strategy": "sequential", "accelerator_config": {"use_seedable_sampler": False}},
        {"gradient_accumulation_steps": 3},
        {"accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}}},
    ],
)
def test_what_keeps_the_order_is_no_problem(changes: dict[str, Any]) -> None:
    assert list(batch_problems(None, scaling((1, 4)), fields(**changes))) == []


def test_a_fixed_number_of_workers_with_no_global_batch_may_have_anything() -> None:
    arguments = fields(auto_find_batch_size=True, train_sampling_strategy="group_by_length", dataloader_drop_last=True)
    assert list(batch_problems(None, scaling(3), arguments)) == []


def loaders(examples: int, per_device: int, workers: int) -> list[Any]:
    """Return the loader of each rank, prepared as transformers' Trainer has it prepared."""
    data = list(range(examples))
    prepared = []
    for rank in range(workers):
        torch.manual_seed(7)
        loader: DataLoader[int] = DataLoader(data, batch_size=per_device, sampler=RandomSampler(data))
        options: dict[str, Any] = {"use_seedable_sampler": True, "put_on_device": False}
        prepared.append(prepare_data_loader(loader, num_processes=workers, process_index=rank, **options))
    return prepared


def steps_of_an_epoch(epoch: int, workers: int, examples: int, skipped: int = 0) -> list[list[int]]:
    """Return the examples of each optimizer step over all ranks, 24 a step in batches of 2."""
    accumulation = accumulation_steps(24, 2, workers)
    ranks = []
    for loader in loaders(examples, 2, workers):
        begun = skip_first_batches(loader, skipped * accumulation) if skipped else loader
        begun.set_epoch(epoch)
        ranks.append([batch.tolist() for batch in begun])
    steps = []
    for first in range(0, len(ranks[0]), accumulation):
        taken = [batch for rank in ranks for batch in rank[first : first + accumulation]]
        steps.append(sorted(chain(*taken)))
    return steps


@pytest.mark.parametrize("workers", [2, 3, 4, 6, 12])
@pytest.mark.parametrize("epoch", [0, 1])
def test_accelerate_deals_each_step_the_same_examples(workers: int, epoch: int) -> None:
    alone = steps_of_an_epoch(epoch, 1, 72)
    assert sorted(chain(*alone)) == list(range(72))
    assert steps_of_an_epoch(epoch, workers, 72) == alone
    # After a resume with another number of workers, too.
    assert steps_of_an_epoch(epoch, workers, 72, skipped=2) == alone[2:]


@pytest.mark.parametrize("workers", [2, 3, 4, 6, 12])
def test_the_last_step_of_an_epoch_is_filled_up_and_the_number_of_steps_stays(workers: int) -> None:
    alone, shared = steps_of_an_epoch(0, 1, 59), steps_of_an_epoch(0, workers, 59)
    assert len(shared) == len(alone) == 3
    assert shared[:2] == alone[:2]
    assert set(shared[2]) >= set(alone[2])


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_rebalanced_batches_hold_the_same_examples_in_each_step(workers: int) -> None:
    lengths = [1 + (number * 7) % 13 for number in range(59)]

    def steps(workers: int) -> list[list[int]]:
        accumulation = accumulation_steps(24, 2, workers)
        options: dict[str, Any] = {"dp_size": workers, "grad_accum": accumulation, "drop_last": False}
        ranks = [list(BatchRebalanceSampler(lengths, 24, rank=rank, **options)) for rank in range(workers)]
        starts = range(0, len(ranks[0]), accumulation)
        return [sorted(chain(*(b for rank in ranks for b in rank[start : start + accumulation]))) for start in starts]

    assert len(steps(1)) == 3
    assert steps(workers) == steps(1)


def test_the_policy_takes_and_asks_for_sizes_that_divide() -> None:
    policy = SharingPolicy(ScalingConfig(num_workers=(1, 8)), sizes=[1, 2, 4], relay=None)
    assert policy._get_num_workers_for_resource_request() == 4
    nodes = {"a": {"CPU": 2.0}, "b": {"CPU": 1.0}}
    assert policy._count_possible_workers(nodes) == 2
    assert policy._count_possible_workers({**nodes, "c": {"CPU": 9.0}}) == 4
    assert policy._count_possible_workers({}) == 0

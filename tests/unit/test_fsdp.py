from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from accelerate import DistributedType

from raytrainer.errors import ResourcesError
from raytrainer.fsdp import sharding_on_cpu


def arguments(version: int | None, kind: DistributedType, world_size: int = 2) -> SimpleNamespace:
    plugin = {"fsdp_version": version} if version else None
    state = SimpleNamespace(distributed_type=kind)
    return SimpleNamespace(fsdp_plugin_args=plugin, distributed_state=state, world_size=world_size)


def test_cpu_workers_with_fsdp_go_by_another_name_and_get_a_mesh() -> None:
    asked = arguments(2, DistributedType.MULTI_CPU)
    with sharding_on_cpu(asked):
        assert asked.distributed_state.distributed_type == DistributedType.MULTI_GPU
        assert os.environ["PARALLELISM_CONFIG_DP_SHARD_SIZE"] == "2"
    assert "PARALLELISM_CONFIG_DP_SHARD_SIZE" not in os.environ


@pytest.mark.parametrize(
    "asked",
    [
        arguments(None, DistributedType.MULTI_CPU),
        arguments(2, DistributedType.MULTI_CPU, world_size=1),
        arguments(1, DistributedType.MULTI_GPU),
        arguments(2, DistributedType.MULTI_GPU),
    ],
    ids=["no fsdp", "one worker", "version 1 on GPUs", "version 2 on GPUs"],
)
def test_what_accelerate_knows_is_left_to_it(asked: SimpleNamespace) -> None:
    before = asked.distributed_state.distributed_type
    with sharding_on_cpu(asked):
        assert asked.distributed_state.distributed_type == before
        assert "PARALLELISM_CONFIG_DP_SHARD_SIZE" not in os.environ


def test_version_1_is_refused_on_cpu_workers() -> None:
    with pytest.raises(ResourcesError, match="version"), sharding_on_cpu(arguments(1, DistributedType.MULTI_CPU)):
        pass

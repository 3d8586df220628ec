"""What the ranks of a process group tell each other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar

Shared = TypeVar("Shared")


def gather(item: Shared) -> list[Shared]:
    """Return every rank's item, by rank, on every rank.

    Args:
        item: this rank's; it pickles.
    """
    import torch.distributed as dist

    if not dist.is_initialized():
        return [item]
    items: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(items, item)
    return items


def limit_waiting(seconds: float) -> None:
    """Set how long this rank waits for the others in an operation of the default group, which Ray Train has made.

    transformers passes its ``ddp_timeout`` on to a group that it makes itself.

    Args:
        seconds: until the operation fails.
    """
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import _set_pg_timeout

    if dist.is_initialized() and dist.get_backend() in (dist.Backend.NCCL, dist.Backend.GLOO):
        _set_pg_timeout(timedelta(seconds=seconds))

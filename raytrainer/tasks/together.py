"""Work that one rank does for all of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from raytrainer.errors import UserError

Made = TypeVar("Made")


def from_rank_0(work: Callable[[], Made]) -> Made:
    """Do something on rank 0 while the others wait, however long it takes.

    Args:
        work: what to do; its result travels between processes.

    Returns:
        What rank 0 made, on every rank.

    Raises:
        UserError: what rank 0 raised, on every rank.
    """
    if not dist.is_initialized():
        return work()
    # A group of its own: in the default one the others would give up after half an hour.
    group = dist.new_group(backend="gloo", timeout=timedelta(days=7))
    made: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            made = [work()]
        except UserError as mistake:
            made = [mistake]
    dist.broadcast_object_list(made, src=0, group=group)
    dist.destroy_process_group(group)
    if isinstance(made[0], UserError):
        raise made[0]
    return made[0]  # type: ignore[no-any-return]  # it is what rank 0 made

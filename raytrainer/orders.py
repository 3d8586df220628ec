"""Worker: the orders that this process is given, one after the other, and how it is left for the next one."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle

from raytrainer.wire import Post


def orders(relay: Any, rank: int) -> Iterator[Callable[[], Any]]:
    """Yield a function for each order, which reads and returns it; end where no other will come.

    Each is carried out before the next one is asked for. The process is left as the first one found it.

    Args:
        relay: the driver's.
        rank: of this process.
    """
    done = None
    while (post := ray.get(relay.next_order.remote(rank, done))) is not None:
        # Before the order is read, which imports them.
        find_modules_in(post.path)
        read = functools.partial(_read, post)
        if post.last:
            yield read
            return
        with as_found():
            yield read
        done = post.number


def find_modules_in(folders: Sequence[str]) -> None:
    """Have this process find the user's modules where the driver found them, as far as this machine has the folders.

    Args:
        folders: the driver's ``sys.path``.
    """
    sys.path += [folder for folder in folders if folder not in sys.path and os.path.isdir(folder)]


def _read(post: Post) -> Any:
    return cloudpickle.loads(ray.get(post.order[0]))


@contextlib.contextmanager
def as_found() -> Iterator[None]:
    """Leave this process as it was: environment and random numbers as before the block, the memory free.

    What accelerate keeps for a process transformers sets anew with each TrainingArguments.
    """
    before = dict(os.environ)
    torch = sys.modules.get("torch")
    seeded = torch.random.get_rng_state() if torch is not None else None
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        if torch is not None:
            torch.random.set_rng_state(seeded)
        free_memory()


def free_memory() -> None:
    """Give back what the last trainer held: memory of this process, and of its GPU."""
    gc.collect()
    # All that is left of the first training are modules and caches; looking through them takes a third of a second.
    if not gc.get_freeze_count():
        gc.freeze()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def own_sources() -> list[str]:
    """Return the files of modules in this process that are the user's: neither Python's nor those of packages."""
    packages = tuple({f"{sysconfig.get_paths()[name]}{os.sep}" for name in ("stdlib", "platlib", "purelib")})
    here = f"{Path(__file__).parent}{os.sep}"
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return sorted({file for file in files if file and not file.startswith((*packages, here))})

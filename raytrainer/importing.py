"""Imports that take seconds: without Python's search for cycles, and beside what else has to be waited for."""

from __future__ import annotations

import contextlib
import gc
import importlib
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def collecting_paused() -> Iterator[None]:
    """Let nothing be searched for cycles inside the block: what an import makes stays.

    It takes a quarter of the time in which torch and transformers are imported.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def imported_meanwhile(name: str | None) -> Iterator[None]:
    """Import a module on another thread while the block waits for something else; it is there when the block ends.

    Not later: packages whose modules import each other are not to be imported on two threads at once.

    Args:
        name: the module's; None for none. Where it cannot be imported, that is said to who needs it.
    """
    if name is None:
        yield
        return

    def load() -> None:
        with contextlib.suppress(Exception):
            importlib.import_module(name)

    thread = threading.Thread(target=load, name=f"import {name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()

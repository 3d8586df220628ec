"""A script or a module run as ``__main__``, as python itself does, in a process that is something else."""

from __future__ import annotations

import logging
import os
import runpy
import sys
import types


def run_as_main(target: str, module: bool, arguments: list[str]) -> None:
    """Run it in this thread, with its own command line; modules beside it, or in the working folder, are found first.

    Args:
        target: a script's path, absolute, or a module's name.
        module: whether it is a module's name.
        arguments: its command line.

    Raises:
        BaseException: whatever it raises.
    """
    sys.argv = [target, *arguments]
    # Ray's, with which a script's logging.basicConfig would do nothing.
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    sys.path.insert(0, os.getcwd() if module else os.path.dirname(target))
    if module:
        runpy.run_module(target, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(target, run_name="__main__")


def show_exception(error: BaseException) -> None:
    """Write what python writes when a program ends with an exception; the frames above the script's are left out."""
    error.__traceback__ = own_traceback(error.__traceback__)
    sys.excepthook(type(error), error, error.__traceback__)


def own_traceback(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """Return the part of a traceback that begins in the script: after runpy, which has called it."""
    while traceback is not None and not _of_runpy(traceback):
        traceback = traceback.tb_next
    while traceback is not None and _of_runpy(traceback):
        traceback = traceback.tb_next
    return traceback


def _of_runpy(traceback: types.TracebackType) -> bool:
    return traceback.tb_frame.f_globals.get("__name__") == "runpy"

"""Driver: a run's folder, which is one program's at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from raytrainer.checkpoints import Store
from raytrainer.errors import ArgumentsError, Problem

# What this program has: a command may ask for it, and what that calls once more.
_HELD: set[Path] = set()


@contextlib.contextmanager
def claimed(folder: Store, setting: str, value: object) -> Iterator[None]:
    """Have a run's folder for oneself inside the block: two trainings that write into it would spoil both.

    The lock is a file beside the folder, which may be deleted meanwhile; it ends with the program, however that ends.
    Object stores have no locks, nor have some network file systems: there nobody is kept out.

    Args:
        folder: the run's.
        setting: what says where it is, for the error.
        value: of that setting.

    Raises:
        ArgumentsError: another program trains into it.
    """
    path = folder.folder if folder.local else None
    if path is None or path in _HELD:
        yield
        return
    lock = path.with_name(f".{path.name}.lock")
    made = [above for above in lock.parents if not above.exists()]
    try:
        file = _locked(lock)
    except BlockingIOError:
        fix = "another name or folder, or the same when that program has ended"
        raise ArgumentsError(Problem(setting, value, f"{_holder(lock)} trains into {path}", fix)) from None
    except OSError:  # no locks, or no right to write there, of which others say more
        yield
        return
    _HELD.add(path)
    try:
        yield
    finally:
        _HELD.discard(path)
        with contextlib.suppress(OSError):
            lock.unlink()
            for above in made:
                above.rmdir()  # unless there is something in it now
        file.close()


def _locked(path: Path) -> IO[str]:
    """Open a file and lock it.

    Raises:
        BlockingIOError: somebody has it.
        OSError: it cannot be locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = open(path, "a", encoding="utf-8")  # noqa: SIM115  # it stays open
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_still(path, file):  # whoever had it has ended since, and has deleted the file
                file.close()
                continue
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        except BaseException:
            file.close()
            raise
        return file


def _is_still(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError):
        if said := path.read_text(encoding="utf-8"):
            return said
    return "another program"

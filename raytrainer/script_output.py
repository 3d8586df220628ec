"""Where a script's output goes: into files, and rank 0's to the driver while it is written."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from raytrainer.events import Printed
from raytrainer.outbox import Outbox

_LOOK_S = 0.1


class Output:
    """Worker: sends file descriptors 1 and 2 into files, so that C++ and subprocesses are included.

    Rank 0 has a file for each of the two, which a thread reads after it. A file, because a pipe that is full stops its
    writer, who may hold the lock that the reader waits for; and because a file has the last words of a process that
    crashed.

    Args:
        folder: where the files are; what is there is added to.
        rank: of this worker.
        outbox: the way to the driver.

    Attributes:
        files: those of this rank.
    """

    def __init__(self, folder: Path, rank: int, outbox: Outbox) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        log, errors = folder / f"rank-{rank}.log", folder / f"rank-{rank}.stderr.log"
        self.files = {"stdout": log, "stderr": errors if rank == 0 else log}
        self._outbox = outbox
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="raytrainer-output", daemon=True)
        self._read: dict[str, int] = {}
        for number, (stream, file) in enumerate(self.files.items(), 1):
            getattr(sys, stream).flush()
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._read[stream] = os.fstat(descriptor).st_size
            os.dup2(descriptor, number)
            os.close(descriptor)
        if rank == 0:
            self._thread.start()

    def finish(self) -> None:
        """Return when the driver's relay has everything that was written so far."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        self._outbox.settle()

    def _follow(self) -> None:
        last = False
        while not last:
            last = self._ending.wait(_LOOK_S)
            for stream, file in self.files.items():
                with open(file, "rb") as content:
                    content.seek(self._read[stream])
                    data = content.read()
                if data:
                    self._read[stream] += len(data)
                    self._outbox.send(Printed(stream, data))

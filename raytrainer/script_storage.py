"""Where the files of a script's run go, when it has a storage and when it has none."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from raytrainer.checkpoints import Store, join
from raytrainer.outbox import Outbox
from raytrainer.patience import GIVE_UP_S, patiently
from raytrainer.script_order import ScriptOrder

# Below an output_dir, what is kept as checkpoints, or is on its way there.
_CHECKPOINTS = re.compile(r"checkpoint-\d+|\.rank-\d+|\.fetched")


class Places:
    """Worker: without a storage everything is where the script writes it; with one, each ``output_dir`` is in it too.

    Args:
        order: the script's.

    Attributes:
        output_dirs: those of the training arguments that the script has made, absolute, in order.
    """

    def __init__(self, order: ScriptOrder) -> None:
        self.output_dirs: list[str] = []
        self._storage, self._start, self._started = order.storage, os.getcwd(), order.started
        self._of_a_trial, self._patience = order.paced, GIVE_UP_S
        in_place = order.storage is not None and order.storage.local
        self.logs = order.storage.folder / "logs" if in_place else Path(tempfile.mkdtemp(prefix="raytrainer-"))  # type: ignore[union-attr]  # in_place

    def note(self, output_dir: str) -> None:
        """Remember where the script writes."""
        folder = os.path.abspath(output_dir)
        if folder not in self.output_dirs:
            self.output_dirs.append(folder)

    def mirror(self, output_dir: str) -> Store:
        """Return where a folder's checkpoints are, and at the end all else that the run has left in it."""
        folder = os.path.abspath(output_dir)
        if self._storage is None:
            return Store(folder)
        name = os.path.relpath(folder, self._start)
        if name.split(os.sep)[0] in (os.curdir, os.pardir):
            name = os.path.basename(folder)
        return Store(join(self._storage.path, *name.split(os.sep)), self._storage.filesystem)

    def checkpoints(self, output_dir: str) -> Store:
        """Return where the checkpoints of a training are; a trial of a sweep has one training, and one place for it."""
        if self._of_a_trial and self._storage is not None:
            return Store(join(self._storage.path, "checkpoints"), self._storage.filesystem)
        return self.mirror(output_dir)

    def bring_files(self, outbox: Outbox) -> None:
        """Copy what the run has left in its folders into the storage; where that fails the user is told."""
        if self._storage is None:
            return
        there = self._storage.folder.resolve() if self._storage.local else None
        for folder in self.output_dirs:
            store = self.mirror(folder)
            if there is not None and Path(folder).resolve().is_relative_to(there):
                continue
            with _told(outbox, folder, store.path):
                # All of them before the first is copied: the storage may be below this folder.
                for name in list(_left(Path(folder), self._started, there)):
                    self._bring(Path(folder, name), store, name, outbox)

    def bring_logs(self, files: Iterable[Path], outbox: Outbox) -> None:
        """Put this rank's logs where the run's are; without a storage that is in the first ``output_dir``."""
        for file in sorted(set(files)):
            if self._storage is None and self.output_dirs:
                target = Path(self.output_dirs[0], "logs", file.name)
                with _told(outbox, str(file), str(target)):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(file, target)
            elif self._storage is not None and not self._storage.local:
                self._bring(file, self._storage, f"logs/{file.name}", outbox)

    def _bring(self, file: Path, store: Store, name: str, outbox: Outbox) -> None:
        # All files together have the patience that one has: a storage that is gone for good is not waited for at each.
        with _told(outbox, str(file), store.path):
            began = time.monotonic()
            try:
                patiently(lambda: store.copy(file, name), outbox.warn, self._patience)
            except OSError:
                self._patience -= time.monotonic() - began
                raise


def _left(folder: Path, since: float, storage: Path | None) -> Iterator[str]:
    """Name the files below a folder that are not older, without checkpoints and what is in the storage."""
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if storage is None or Path(root, name).resolve() != storage]
        if Path(root) == folder:
            folders[:] = [name for name in folders if not _CHECKPOINTS.fullmatch(name)]
        for name in files:
            if os.lstat(os.path.join(root, name)).st_mtime >= since:
                yield Path(root, name).relative_to(folder).as_posix()


@contextlib.contextmanager
def _told(outbox: Outbox, what: str, where: str) -> Iterator[None]:
    # The script has done its work, and what could not be copied is still where it was written.
    try:
        yield
    except OSError as error:
        outbox.warn(f"{what} could not be copied to {where}: {error}")

"""A folder of this machine for files on their way to and from an object store."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from raytrainer.checkpoints import Store


def scratch_folder(store: Store) -> Path:
    """Return where files of a folder in an object store are on this machine: the same whenever it is asked.

    The temporary folder is everybody's: another user could not write below a folder of ours, and another bucket
    may have a folder of the same name.
    """
    digest = hashlib.sha256(store.path.encode()).hexdigest()[:16]
    name = store.path.partition("?")[0].rstrip("/").rpartition("/")[2]
    return Path(tempfile.gettempdir()) / f"raytrainer-{os.getuid()}" / f"{name}-{digest}"

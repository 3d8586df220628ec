"""What makes a folder a checkpoint: a manifest, and files that are what it says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
_CHUNK = 4 * 2**20


@dataclass(frozen=True)
class File:
    """A file of a checkpoint.

    Args:
        size: bytes.
        sha256: digest of its content, hexadecimal.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What makes a folder a checkpoint; written when everything that it names is in the storage.

    Args:
        step: optimizer steps done.
        run: which call of ``train`` wrote it; a call that is repeated after a failure keeps its name.
        time: when, in seconds since the Unix epoch.
        world_size: number of workers that wrote it.
        files: name inside the folder, with ``/``, to size and digest.
        metrics: of the evaluation at this step, empty without one.
        meaning: what the run trained, on what; compared when it is resumed.
        pinned: whether it stays until somebody else deletes it, a sweep for example.
    """

    step: int
    run: str
    time: float
    world_size: int
    files: dict[str, File]
    metrics: dict[str, float] = field(default_factory=dict)
    meaning: dict[str, Any] = field(default_factory=dict)
    pinned: bool = False

    def to_json(self) -> str:
        values = {"format": 1, **dataclasses.asdict(self)}
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            values = json.loads(text)
            if values.pop("format") != 1:
                raise ValueError("written by a newer version")
            files = {inside(name): File(**entry) for name, entry in values.pop("files").items()}
            manifest = cls(files=files, **values)
            # What is sorted and compared later, and fails here if it is something else.
            if math.isnan(manifest.time):
                raise ValueError("its time is no number")
            sorted(manifest.metrics.values(), key=math.isnan)
            manifest.meaning.keys()
        except (AttributeError, KeyError, OverflowError, RecursionError, TypeError) as error:
            raise ValueError(f"no manifest: {error!r}") from error
        return manifest


def inside(name: str) -> str:
    """Return a name relative to a folder that leads into it: what comes from a storage is written nowhere else."""
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"{name!r} leads out of its folder")
    return name


def damage(manifest: Manifest, folder: Path) -> str | None:
    """Compare a checkpoint's files with its manifest.

    Args:
        manifest: what should be there.
        folder: what is there.

    Returns:
        The first file that is wrong and how, None where all are right.
    """
    for name, expected in sorted(manifest.files.items()):
        try:
            status = os.stat(folder / name)
            if not stat.S_ISREG(status.st_mode):
                return f"{name} is no file"
            if status.st_size != expected.size:
                return f"{name} has {status.st_size} bytes instead of {expected.size}"
            if digest(folder / name) != expected.sha256:
                return f"{name} has the right size and another content (sha256)"
        except FileNotFoundError:
            return f"{name} is missing"
        # A disk that is going bad: an older checkpoint may be elsewhere on it. Or a name that no file has.
        except (OSError, ValueError) as error:
            return f"{name} cannot be read: {error}"
    return None


def describe(file: Path) -> File:
    """Return size and digest of a file."""
    return File(os.path.getsize(file), digest(file))


def digest(file: Path) -> str:
    """Return the sha256 of a file, hexadecimal."""
    sha256 = hashlib.sha256()
    with open(file, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            sha256.update(chunk)
    return sha256.hexdigest()

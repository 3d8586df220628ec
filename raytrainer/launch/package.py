"""Which files of a folder a job takes along, and the archive of them."""

from __future__ import annotations

import logging
import os
import re
import zipfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ray._private.runtime_env import packaging

from raytrainer.config.data import found
from raytrainer.errors import Problem, ResourcesError

LIMIT = 100 * 2**20
"""Bytes that Ray's job server takes in one request."""
# What no job needs from where it is submitted, by name.
_NAMES = {".git", ".hg", ".svn", "__pycache__", "node_modules", "wandb", "mlruns", "mlartifacts", ".DS_Store"}
_CACHES = re.compile(r"\.(cache|mypy_cache|ruff_cache|pytest_cache|tox|nox|ipynb_checkpoints|ray)")
_CHECKPOINT = re.compile(r"checkpoint-\d+")
_LARGE = 10 * 2**20
# Data and weights: large ones are read from where all nodes see them, unless the config names them.
_DATA = re.compile(
    r".*\.(parquet|arrow|csv|tsv|jsonl?|txt|tar|zip|gz|zst|bin|safetensors|pt|pth|ckpt|npy|npz|h5|db|sqlite)"
)


@dataclass(frozen=True)
class LeftOut:
    """What a job does not get.

    Args:
        path: relative to the folder.
        size: bytes.
        reason: why.
    """

    path: str
    size: int
    reason: str


@dataclass(frozen=True)
class Package:
    """Files of a folder.

    Args:
        root: the folder.
        files: relative paths to sizes in bytes.
        left_out: data and weights that are too large.
    """

    root: Path
    files: dict[str, int]
    left_out: list[LeftOut]

    @property
    def largest(self) -> list[str]:
        """The five largest files, with their sizes."""
        order = sorted(self.files.items(), key=lambda each: -each[1])
        return [f"{name} ({megabytes(size)})" for name, size in order[:5]]

    def write(self, archive: Path) -> int:
        """Write the archive, the same bytes for the same files, and return its size.

        Raises:
            ResourcesError: it is larger than a job server takes.
        """
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name in sorted(self.files):
                path = self.root / name
                info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                info.external_attr = (path.stat().st_mode & 0xFFFF) << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                zipped.writestr(info, path.read_bytes())
        size = archive.stat().st_size
        if size > LIMIT:
            reason = f"{megabytes(size)} zipped, and a job server takes {megabytes(LIMIT)}; the largest files are "
            fix = "a .rayignore with what the job does not need, and data where all nodes read it (s3://..., /shared)"
            raise ResourcesError(
                Problem("the working directory", str(self.root), reason + ", ".join(self.largest), fix)
            )
        return size


def package(root: Path, needed: Collection[str], storage: str | None) -> Package:
    """Choose what a job gets of a folder.

    Left out are what ``.gitignore`` and ``.rayignore`` name, version control, virtual environments, caches,
    checkpoints, the runs' storage, and large data and weights.

    Args:
        root: the folder.
        needed: paths and patterns of what the job gets whatever its kind: its config, and what this names.
        storage: the runs' folder, where it is one of this machine's.

    Raises:
        ResourcesError: a file that is needed is outside the folder.
    """
    root = root.resolve()
    files: dict[str, int] = {}
    left_out: list[LeftOut] = []
    runs = Path(storage).resolve() if storage is not None else None

    def skip(path: Path) -> bool:
        if path == root:
            return False
        if path.is_dir():
            return path == runs or _no_code(path)
        return path.name in _NAMES

    def take(path: Path) -> None:
        if not path.is_file():
            return
        name, size = str(path.relative_to(root)), path.stat().st_size
        if size > _LARGE and _DATA.fullmatch(path.name.lower()):
            left_out.append(LeftOut(name, size, "large data"))
        else:
            files[name] = size

    ignores: list[Callable[[Path], bool]] = [skip]
    keeps_ignored = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") == "1"
    packaging._dir_travel(root, ignores, take, not keeps_ignored, logger=logging.getLogger(__name__))
    for name in _files_of(root, needed):
        files[name] = (root / name).stat().st_size
    return Package(root, files, [each for each in left_out if each.path not in files])


def _no_code(folder: Path) -> bool:
    name = folder.name
    named = name in _NAMES or bool(_CACHES.fullmatch(name) or _CHECKPOINT.fullmatch(name)) or name.endswith(".egg-info")
    return named or (folder / "pyvenv.cfg").exists()


def _files_of(root: Path, names: Collection[str]) -> Iterator[str]:
    for name in names:
        # What is not there may be on the cluster.
        for path in (Path(each).resolve() for each in found(name, str(root))):
            if path.is_relative_to(root):
                parts = [path] if path.is_file() else (part for part in path.rglob("*") if part.is_file())
                yield from (str(part.relative_to(root)) for part in parts)
            elif not os.path.isabs(os.path.expanduser(name)):  # else the nodes share it
                reason = f"it is not below {root}, which is what is sent"
                fix = "a path in the working directory, --working-dir, or where all nodes can read it"
                raise ResourcesError(Problem("the job's file", name, reason, fix))


def megabytes(size: int) -> str:
    """Return a size in words."""
    return f"{size / 2**20:.1f} MiB"

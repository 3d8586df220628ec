"""Checkpoints and other files of a run in its storage, wherever that is."""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import re
import shutil
import uuid
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from pyarrow import fs as filesystems

from raytrainer.errors import ArgumentsError, Problem
from raytrainer.manifests import MANIFEST, Manifest, inside
from raytrainer.secrets import has_credentials

_FOLDER = re.compile(r"checkpoint-(\d+)")
# Something else has a file's name, which no waiting changes.
_NO_FILE = {errno.EISDIR, errno.ELOOP, errno.ENOTDIR}
_UPLOAD_CHUNK = 64 * 2**20


class Store:
    """A folder of checkpoints: local, shared between machines, or in an object store. Travels between processes.

    Args:
        path: an absolute local path, or a URI that pyarrow reads (``s3://bucket/runs/a?region=...``).
        filesystem: the file system that ``path`` is a path of; None to read it from ``path``.
    """

    def __init__(self, path: str, filesystem: filesystems.FileSystem | None = None) -> None:
        self.path, self.filesystem = path, filesystem

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.path, self.filesystem)

    @cached_property
    def _place(self) -> tuple[filesystems.FileSystem, str]:
        if self.filesystem is not None:
            return self.filesystem, self.path
        place: tuple[filesystems.FileSystem, str] = filesystems.FileSystem.from_uri(self.path)
        return place

    @property
    def local(self) -> bool:
        """Whether it is a folder of this machine's, or of one that is mounted here."""
        return isinstance(self._place[0], filesystems.LocalFileSystem)

    @property
    def folder(self) -> Path:
        """Where it is on this machine; only for a local one."""
        return Path(self._place[1])

    @property
    def shown(self) -> str:
        """Where it is, for people and other programs: a path where it is local, else the URI."""
        return self._place[1] if self.local else self.path

    def below(self, *names: str) -> Store:
        """Return a folder inside it."""
        return Store(join(self.path, *names), self.filesystem)

    def address(self, step: int) -> str:
        """Return where a checkpoint is: a path where the store is local, else a URI."""
        return join(self.shown, f"checkpoint-{step}")

    def manifests(self) -> list[Manifest]:
        """Return those of all checkpoints, oldest first by the time of writing."""
        found = (self.manifest(step) for step in self.steps())
        return sorted((m for m in found if m is not None), key=lambda m: (m.time, m.step))

    def steps(self) -> list[int]:
        """Return the steps of all folders that are called like a checkpoint, complete or not."""
        matches = (_FOLDER.fullmatch(name) for name in self.folders(""))
        return sorted(int(match[1]) for match in matches if match)

    def folders(self, name: str) -> list[str]:
        """Return the names of the folders in one of its folders, sorted; none where it is not there."""
        return self._listed(name, filesystems.FileType.Directory)

    def files(self, name: str) -> list[str]:
        """Return the names of the files in one of its folders, sorted; none where it is not there."""
        return self._listed(name, filesystems.FileType.File)

    def _listed(self, name: str, kind: filesystems.FileType) -> list[str]:
        system, root = self._place
        folder = posixpath.join(root, name).rstrip("/")
        if self.local:
            # pyarrow fails on a name that is not UTF-8, whoever put it there.
            is_one = os.path.isdir if kind == filesystems.FileType.Directory else os.path.isfile
            try:
                return sorted(each for each in os.listdir(folder) if is_one(posixpath.join(folder, each)))
            except FileNotFoundError:
                return []
        infos = system.get_file_info(filesystems.FileSelector(folder, allow_not_found=True))
        return sorted(info.base_name for info in infos if info.type == kind)

    def manifest(self, step: int) -> Manifest | None:
        """Return the manifest of a checkpoint, None where there is none that can be read."""
        try:
            manifest = Manifest.from_json(self.read(posixpath.join(f"checkpoint-{step}", MANIFEST)))
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            if error.errno in _NO_FILE:
                return None
            raise
        return manifest if manifest.step == step else None  # else a copied folder, or damaged

    def read(self, name: str) -> bytes:
        """Return a small file's content.

        Raises:
            FileNotFoundError: there is none.
        """
        system, root = self._place
        path = posixpath.join(root, name)
        if self.local:
            return Path(path).read_bytes()
        with system.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a small file so that a reader sees all of it or none."""
        system, root = self._place
        path = posixpath.join(root, name)
        if self.local:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            try:
                with open(f"{path}.part", "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(f"{path}.part", path)
            except OSError:
                with contextlib.suppress(OSError):
                    os.remove(f"{path}.part")
                raise
            _sync_folder(os.path.dirname(path))
            return

        def write() -> None:
            with system.open_output_stream(path) as stream:
                stream.write(content)

        _with_folder(system, path, write)

    def copy(self, file: Path, name: str) -> None:
        """Copy a local file into the folder, under a name with ``/`` that is relative to it."""
        system, root = self._place
        target = posixpath.join(root, name)
        # A thread pool of pyarrow's own deadlocks on uploads to S3.
        here, how = filesystems.LocalFileSystem(), {"chunk_size": _UPLOAD_CHUNK, "use_threads": False}
        _with_folder(system, target, lambda: filesystems.copy_files(str(file), target, here, system, **how))

    def put(self, file: Path, step: int, name: str) -> None:
        """Bring a local file into a checkpoint: moved where that needs no copy, else copied; again does no harm.

        Args:
            file: the file; it may already be where it belongs.
            step: which checkpoint.
            name: its name inside the checkpoint.
        """
        target = posixpath.join(self._place[1], f"checkpoint-{step}", name)
        if not self.local:
            self.copy(file, posixpath.join(f"checkpoint-{step}", name))
            return
        # Where a try before this one has moved it, it is only there.
        moved = os.path.exists(target) and (not os.path.exists(file) or os.path.samefile(file, target))
        if not moved:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            try:
                os.replace(file, target)
            except OSError:  # another file system, most often
                shutil.copyfile(file, target)
        with open(target, "rb") as written:
            os.fsync(written.fileno())

    def seal(self, manifest: Manifest) -> None:
        """Write the manifest: from now on the checkpoint exists."""
        folder = f"checkpoint-{manifest.step}"
        if self.local:
            _sync_folder(posixpath.join(self._place[1], folder))
        self.write(posixpath.join(folder, MANIFEST), manifest.to_json().encode())

    def remove(self, step: int) -> None:
        """Delete a checkpoint, its manifest first, so that half of it never passes for one."""
        system, root = self._place
        folder = posixpath.join(root, f"checkpoint-{step}")
        with contextlib.suppress(FileNotFoundError):
            system.delete_file(posixpath.join(folder, MANIFEST))
        with contextlib.suppress(FileNotFoundError):
            system.delete_dir(folder)

    def put_folder(self, source: Path, name: str) -> None:
        """Bring a folder of this machine into the store, in place of one of that name."""
        system, root = self._place
        target = posixpath.join(root, name)
        if self.local:
            # Whole or not at all, and nobody who reads the old one sees its files change.
            part = f"{target}.{uuid.uuid4().hex}.part"
            shutil.copytree(source, part)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(part, target)
            return
        here, how = filesystems.LocalFileSystem(), {"chunk_size": _UPLOAD_CHUNK, "use_threads": False}
        _with_folder(system, target, lambda: filesystems.copy_files(str(source), target, here, system, **how))

    def fetch_folder(self, name: str, target: Path) -> None:
        """Copy a folder of the store to this machine.

        Raises:
            FileNotFoundError: there is none.
            ValueError: a file in it would be outside of the copy.
        """
        system, root = self._place
        source, here = posixpath.join(root, name), filesystems.LocalFileSystem()
        # File by file: an object store need not know of the folders in it, and copying one would not make them.
        for info in system.get_file_info(filesystems.FileSelector(source, recursive=True)):
            if info.type == filesystems.FileType.File:
                file = target / inside(posixpath.relpath(info.path, source))
                file.parent.mkdir(parents=True, exist_ok=True)
                filesystems.copy_files(info.path, str(file), system, here, use_threads=False)

    def delete(self) -> None:
        """Delete the folder and all that is in it; none does no harm."""
        system, root = self._place
        with contextlib.suppress(FileNotFoundError):
            system.delete_dir(root)

    def prune(self, above: str) -> None:
        """Delete the folders of a local store up to and with ``above`` that are empty."""
        if not self.local:
            return
        folder, last = self.folder, Path(above)
        with contextlib.suppress(OSError):  # one that is not empty, or not ours
            while folder != last and last in folder.parents:
                folder = folder.parent
                folder.rmdir()

    def fetch(self, manifest: Manifest, folder: Path) -> Path:
        """Make a checkpoint's files readable on this machine.

        Args:
            manifest: which one.
            folder: where to copy it; a local store needs no copy and ignores it.

        Returns:
            The folder that has the files.

        Raises:
            FileNotFoundError: a file is not there.
        """
        system, root = self._place
        source = posixpath.join(root, f"checkpoint-{manifest.step}")
        if self.local:
            return Path(source)
        for name in manifest.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            filesystems.copy_files(posixpath.join(source, name), str(target), system, filesystems.LocalFileSystem())
        return folder


def join(path: str, *names: str) -> str:
    """Append names to a local path or to a URI, before its query."""
    head, mark, query = path.partition("?") if "://" in path else (path, "", "")
    return posixpath.join(head, *names) + mark + query


def parted(path: str) -> tuple[str, str]:
    """Part a local path or a URI into the folder above, with the URI's query, and the name."""
    head, mark, query = path.partition("?") if "://" in path else (path, "", "")
    parent, _, name = head.rstrip("/").rpartition("/")
    return parent + mark + query, name


def on_this_machine(path: str) -> str:
    """Make a local path absolute against the folder the driver was started from; leave a URI as it is.

    Raises:
        ArgumentsError: there is a key in the URI.
    """
    if has_credentials(path):
        reason = "it has a key in it, and where a run is goes into its records, its output and logs"
        fix = "the URI without it, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment; run.env for workers"
        raise ArgumentsError(Problem("storage_path", path, reason, fix))
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def _with_folder(system: filesystems.FileSystem, path: str, write: Callable[[], None]) -> None:
    # An object store has no folders and is not asked for one; others want it first.
    try:
        write()
    except FileNotFoundError:
        system.create_dir(posixpath.dirname(path), recursive=True)
        write()


def _sync_folder(folder: str) -> None:
    # Not every mounted file system lets a folder be synchronised.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

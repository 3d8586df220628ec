"""What ``raytrainer run`` was asked for, and what can be known to be wrong with it before Ray starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

from raytrainer.errors import Problem, unknown_name
from raytrainer.launch.variables import unset

if TYPE_CHECKING:
    from ray.train.v2.api.config import ScalingConfig

_LOSS_SCALES = ("auto", "transformers")


@dataclass(frozen=True)
class ScriptCall:
    """The command line of ``raytrainer run``.

    Args:
        script: path of the script, or name of the module.
        module: whether it is a module's name.
        arguments: the script's own.
        num_workers: how many workers; None for one a GPU of the cluster, else one.
        use_gpu: whether each worker gets a GPU.
        cpus_per_worker: CPU slots of a worker; None for Ray Train's default, one.
        storage_path: where the run's folder is made; None to leave everything where the script writes it.
        name: of the run's folder; None to make one up.
        max_failures: how often the script starts again after a failure, -1 for ever.
        address: of the Ray cluster; None for RAY_ADDRESS, else a Ray of its own.
        loss_scale: ``auto``, ``transformers``, or None to leave it and be told.
        env: names of environment variables that the workers get.
        mlflow: whether the run is recorded in MLflow.
        scaling: the workers as a config says them, in the place of use_gpu and cpus_per_worker; None for those.
        run_name: of the MLflow run; None for the name of the run's folder.
        replaces: whether a run that is in the run's folder is deleted when this one starts.
    """

    script: str
    module: bool
    arguments: list[str]
    num_workers: int | None = None
    use_gpu: bool = False
    cpus_per_worker: float | None = None
    storage_path: str | None = None
    name: str | None = None
    max_failures: int = 0
    address: str | None = None
    loss_scale: str | None = None
    env: Sequence[str] = ()
    mlflow: bool = True
    scaling: ScalingConfig | None = None
    run_name: str | None = None
    replaces: bool = False


def problems(call: ScriptCall) -> Iterator[Problem]:
    """Say what is wrong with a call."""
    yield from _module(call.script) if call.module else _script(call.script)
    if call.num_workers is not None and call.num_workers < 1:
        yield Problem("--num-workers", call.num_workers, "there is nobody to run the script", "-n 1, or more")
    if call.cpus_per_worker is not None and call.cpus_per_worker <= 0:
        yield Problem("--cpus-per-worker", call.cpus_per_worker, "a worker takes some", "1, or a part of one")
    yield from unset("--env", call.env, "the call without it")
    if call.max_failures < -1:
        yield Problem("--max-failures", call.max_failures, "it is less than none", "0, a number, or -1 for ever")
    if call.loss_scale not in (None, *_LOSS_SCALES):
        yield Problem(
            "--loss-scale", call.loss_scale, "there is no such way", unknown_name(str(call.loss_scale), _LOSS_SCALES)
        )
    if call.name is not None and call.storage_path is None:
        yield Problem("--name", call.name, "it names a folder in the storage, and there is none", "--storage-path too")
    if call.name is not None and (call.name in ("", ".", "..") or "/" in call.name):
        yield Problem("--name", call.name, "it is not the name of a folder", "a name without '/'")


def _script(path: str) -> Iterator[Problem]:
    if os.path.isdir(path):
        fix = "the script in it, or -m and the name of the package"
        yield Problem("SCRIPT", path, "it is a folder", fix)
    elif not os.path.isfile(path):
        yield Problem("SCRIPT", path, f"there is no such file in {os.getcwd()}", "the path of a Python file")


def _module(name: str) -> Iterator[Problem]:
    # Without importing anything: what a package does when it is imported, it shall do on the workers.
    folders, found = [os.getcwd(), *sys.path], None
    for part in name.split("."):
        found = PathFinder.find_spec(part, folders) if part else None
        if found is None:
            fix = "a module that python -m would find from here; a script goes without -m"
            yield Problem("-m", name, f"there is no module {part!r} here or on sys.path", fix)
            return
        folders = list(found.submodule_search_locations or [])
    if folders and PathFinder.find_spec("__main__", folders) is None:
        yield Problem("-m", name, "it is a package without a __main__.py", f"a module in it: {name}.NAME")

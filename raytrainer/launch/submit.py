"""``raytrainer submit``: a config or a command becomes a job of a Ray cluster."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raytrainer.config.sweep_parameter import Parameter
from raytrainer.errors import ArgumentsError, Problem, ResourcesError
from raytrainer.launch.jobs import STOP, connect, follow
from raytrainer.launch.package import megabytes, package
from raytrainer.launch.variables import unset
from raytrainer.secrets import has_credentials, names_secret

# Of this program's environment, what a job gets without being asked: no secrets.
_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")

# The settings of a config that may name files.
_NAMING = {"data": ("train", "eval", "test"), "model": ("name", "tokenizer")}

# Seconds that a cluster may take until it can run jobs.
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Submission:
    """What is submitted.

    Args:
        command: the job's command line.
        name: what its ID begins with.
        root: the folder that it takes along.
        needed: files in it that the job gets whatever their kind.
        storage: where its runs are, if it is a folder of this machine's.
        requirements: a requirements file, for packages that the cluster has to install; None where it has them.
        installer: ``pip`` or ``uv``, which installs them.
        variables: environment variables by name, ``NAME`` for this program's value or ``NAME=VALUE``.
    """

    command: Sequence[str]
    name: str
    root: Path
    needed: Sequence[str] = ()
    storage: str | None = None
    requirements: str | None = None
    installer: str = "pip"
    variables: Sequence[str] = field(default_factory=list)


def of_config(file: str, settings: Sequence[str], root: Path, **options: Any) -> Submission:
    """Return the submission of a config; a job that is started again goes on where it was.

    Args:
        file: the config, of a run or a sweep.
        settings: ``KEY=VALUE``, as for ``raytrainer train``.
        root: the folder that the job takes along.
        **options: more of :class:`Submission`.

    Raises:
        UserError: the config is wrong, or not in the folder.
    """
    from raytrainer.config.loading import files_of, load_config, read
    from raytrainer.config.sweep import load_sweep
    from raytrainer.config.sweep_base import is_sweep

    path, folder = Path(file).resolve(), root.resolve()
    if not path.is_relative_to(folder):
        fix = "a config below the present folder, or --working-dir"
        raise ArgumentsError(Problem("CONFIG", file, f"it is not below {root}, which is what the job gets", fix))
    here = str(path.relative_to(folder))
    said: Mapping[str, Any]
    sampled: Sequence[Parameter] = ()
    if is_sweep(read(file, settings)[0]):
        sweep = load_sweep(file, settings)
        said, verb, name, sampled = sweep.base, "tune", sweep.name, sweep.space.parameters
    else:
        config = load_config(file, settings).config
        said, verb, name = config.model_dump(mode="json", by_alias=True), "train", config.name
    needed = [each.removeprefix(f"{folder}{os.sep}") for each in files_of(str(path))]
    needed += _files_named(said, sampled)
    storage = str(said["run"]["storage_path"])
    command = ["raytrainer", verb, here, *settings]
    if not any(setting.startswith("run.existing=") for setting in settings):
        command.append("run.existing=resume")
    local = None if "://" in storage else str(root / storage)
    return Submission(command, name, root, needed=needed, storage=local, **options)


def _files_named(said: Mapping[str, Any], sampled: Sequence[Parameter]) -> Iterator[str]:
    """Yield what a config says, or a sweep over it tries, that may be a path."""
    for section, settings in _NAMING.items():
        yield from _named(said, section, *settings)
    for one in sampled:
        section, _, setting = one.key.partition(".")
        if setting in _NAMING.get(section, ()):
            for value in one.values:
                yield from _named({section: {**(said.get(section) or {}), setting: value}}, section, setting)
    if said.get("script"):
        yield said["script"]


def _named(said: Mapping[str, Any], section: str, *settings: str) -> Iterator[str]:
    """Yield what a section says that may be a path: of data from the hub, nothing is."""
    of: Mapping[str, Any] = said.get(section) or {}
    for given in (of.get(each) for each in settings if of.get("hub") is None):
        yield from [given] if isinstance(given, str) else given if isinstance(given, list) else []


def submit(submission: Submission, address: str | None, wait: bool) -> int:
    """Submit a job, and follow it.

    Args:
        submission: what.
        address: of the job server.
        wait: whether to follow it to its end.

    Returns:
        The job's exit status; 0 where it is not waited for.

    Raises:
        UserError: the server cannot be used, or the folder is too large.
    """
    chosen = package(submission.root, submission.needed, submission.storage)
    environment: dict[str, Any] = {"env_vars": {**STOP, **variables(submission.variables)}}
    if submission.requirements is not None:
        environment[submission.installer] = requirements(submission.requirements)
    job = f"{submission.name}-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "working_dir.zip"
        size = chosen.write(archive)
        client = connect(address)
        _tell(chosen, size)
        _submit(
            client,
            job,
            entrypoint=shlex.join(submission.command),
            submission_id=job,
            runtime_env={"working_dir": str(archive), **environment},
            metadata={"raytrainer": submission.name},
        )
    print(f"submitted {job}", flush=True)
    if not wait:
        print(f"raytrainer logs {job}; raytrainer stop {job}", file=sys.stderr)
        return 0
    return follow(client, job)


def _submit(client: Any, job: str, **what: Any) -> None:
    """Hand a job to the server; a cluster that has just been started has a server before it has who runs jobs."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            client.submit_job(**what)
            return
        except (RuntimeError, ValueError) as error:
            if "No available agent" in str(error) and time.monotonic() < until:
                time.sleep(1.0)
                continue
            line = str(error).strip().splitlines()[0][:400]
            fix = "raytrainer submit --help for what can be set"
            if "No available agent" in line:
                # The one of another Ray on that machine has its port; Ray goes on without.
                fix = "a head with an agent's port of its own: ray start --head --dashboard-agent-listen-port 52366"
            raise ResourcesError(Problem("the job", job, f"the server does not take it: {line}", fix)) from error


def _tell(chosen: Any, size: int) -> None:
    print(f"sending {len(chosen.files)} files of {chosen.root}, {megabytes(size)} zipped", file=sys.stderr)
    for each in chosen.left_out[:5]:
        print(f"left out: {each.path} ({megabytes(each.size)}, {each.reason})", file=sys.stderr)
    if len(chosen.left_out) > 5:
        print(f"left out: {len(chosen.left_out) - 5} more", file=sys.stderr)


def variables(asked: Sequence[str]) -> dict[str, str]:
    """Return the environment variables of a job: harmless ones of this program, and those asked for.

    Raises:
        ArgumentsError: one has no value.
    """
    found = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    # A password in it would be readable on the dashboard.
    found = {name: value for name, value in found.items() if not has_credentials(value)}
    if problems := list(unset("--env", [each for each in asked if "=" not in each], "--env {name}=VALUE")):
        raise ArgumentsError(*problems)
    for each in asked:
        name, mark, value = each.partition("=")
        found[name] = value if mark else os.environ[name]
        if names_secret(name):
            print(f"warning: whoever sees the dashboard can read {name}", file=sys.stderr)
    return found


def requirements(file: str) -> list[str]:
    """Return the lines of a requirements file; versions have to be pinned, so that a retry runs the same code.

    Raises:
        ArgumentsError: there is no such file, or a line is not pinned.
    """
    try:
        # pip's own rule: a URL may have a # in it.
        lines = [re.sub(r"(^|\s+)#.*$", "", line).strip() for line in Path(file).read_text().splitlines()]
    except OSError as error:
        reason = f"it cannot be read: {error.strerror}"
        raise ArgumentsError(Problem("--requirements", file, reason, "a file as pip freeze writes it")) from None
    lines = [line for line in lines if line]
    for line in lines:
        if not re.search(r"==|@|^-|\.whl(#|$)", line):
            fix = "NAME==VERSION, as pip freeze writes it"
            raise ArgumentsError(Problem("--requirements", line, "its version is not pinned", fix))
    return lines

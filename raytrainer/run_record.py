"""run.json, in a run's folder: how the run was started and how far it came, for whoever wants to go on with it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from dataclasses import asdict, dataclass, replace

from raytrainer.checkpoints import Store
from raytrainer.events import Began, Event, Logged, Saved
from raytrainer.secrets import without_secrets

RESUME_VARIABLE = "RAYTRAINER_RESUME"
"""Set by ``raytrainer resume``: the folder of the run that the program shall go on with."""
ALLOW_CHANGES_VARIABLE = "RAYTRAINER_ALLOW_CHANGES"

_NAME = "run.json"


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run.

    Args:
        command: the command line that started it; None for a notebook or an interactive session.
        directory: the folder it was started in.
        state: ``running``, ``finished``, ``interrupted`` or ``failed``; one that was killed says ``running``.
        step: optimizer steps done when this was written.
        max_steps: optimizer steps in all, 0 before that is known.
        checkpoint: the newest checkpoint, None without one.
        unit: what is counted: steps of a run, trials of a sweep.
    """

    command: list[str] | None
    directory: str
    state: str = "running"
    step: int = 0
    max_steps: int = 0
    checkpoint: str | None = None
    unit: str = "step"

    @property
    def progress(self) -> str:
        """How far it came, in words."""
        return f"{self.unit} {self.step} of {self.max_steps}"


def read_record(folder: Store) -> RunRecord:
    """Read the record in a run's folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is none of ours.
    """
    try:
        return RunRecord(**json.loads(folder.read(_NAME)))
    except TypeError as error:
        raise ValueError(str(error)) from error


def write_record(folder: Store, record: RunRecord) -> None:
    """Write the record into a run's folder. Where it cannot be written the run goes on, and cannot be resumed by it."""
    with contextlib.suppress(OSError):
        folder.write(_NAME, (json.dumps(asdict(record), indent=1) + "\n").encode())


def command_of_this_program() -> list[str] | None:
    """Return the command line that would start this program again, without secrets; None where there is none."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    interactive = bool(getattr(sys, "ps1", None)) or "ipykernel" in sys.modules
    if main in (None, "<stdin>") or interactive:
        return None
    return without_secrets([sys.executable, *sys.orig_argv[1:]])


def how_to_resume(record: RunRecord, folder: str) -> str:
    """Return what to type to go on with a run."""
    if record.command is None:
        return "train(resume_from_checkpoint=True)"
    return f"raytrainer resume {shlex.quote(folder)}"


def how_to_go_on(record: RunRecord, folder: str, saved: int | None) -> str:
    """Return what a training that was stopped has left, and what to type to go on with it.

    Args:
        record: of the run.
        folder: the run's.
        saved: the step at which the workers saved because of the stop; None where they were stopped at once.
    """
    if saved is None and record.checkpoint is None:
        return "stopped before anything was saved"
    left = f"saved at step {saved}" if saved is not None else f"stopped; the last checkpoint is {record.checkpoint}"
    return f"{left}. To go on: {how_to_resume(record, folder)}"


class Recorder:
    """Driver: a sink that keeps run.json.

    Args:
        folder: the run's.
        record: what is known at the start.
    """

    def __init__(self, folder: Store, record: RunRecord) -> None:
        self.record = record
        self._folder = folder
        self._closed = False

    def handle(self, event: Event) -> None:
        match event:
            case Began():
                self.record = replace(self.record, step=event.step, max_steps=event.max_steps)
                write_record(self._folder, self.record)
            case Logged():
                self.record = replace(self.record, step=event.step)
            case Saved():
                self.record = replace(self.record, checkpoint=event.path)
                write_record(self._folder, self.record)

    def close(self, error: BaseException | None) -> None:
        if self._closed or not self.record.max_steps:
            return
        self._closed = True
        state = "finished" if error is None else "failed"
        if isinstance(error, KeyboardInterrupt):
            state = "interrupted"
        self.record = replace(self.record, state=state)
        write_record(self._folder, self.record)


def asked_to_resume(folder: str) -> bool:
    """Tell whether ``raytrainer resume`` started this program to go on with this run."""
    asked = os.environ.get(RESUME_VARIABLE)
    return bool(asked) and _one_name(asked or "") == _one_name(folder)


def _one_name(folder: str) -> str:
    if folder.startswith("file://"):
        folder = os.path.dirname(Store(folder).address(0))
    if "://" not in folder:
        return os.path.realpath(folder)
    base, mark, query = folder.partition("?")
    return base.rstrip("/") + mark + query

"""Where a script's run is, and what is noted of it: run.json and the MLflow run."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from raytrainer.checkpoints import Store, join, on_this_machine
from raytrainer.events import Began, Event
from raytrainer.launch.script_call import ScriptCall
from raytrainer.launch.script_sinks import Deferred
from raytrainer.run_record import (
    RESUME_VARIABLE,
    Recorder,
    RunRecord,
    asked_to_resume,
    command_of_this_program,
    how_to_go_on,
)
from raytrainer.sinks import Sink
from raytrainer.tracking import Target, Tracker, open_tracker, tracking_target, ui_command


def tracking_of(call: ScriptCall) -> Target | None:
    """Return the MLflow run that a call asks for, which is not made yet; None for none.

    Raises:
        UserError: a variable of MLflow's cannot be read.
    """
    asked = Named("mlflow", call.run_name or call.name)
    return tracking_target(asked, os.environ, os.getcwd()) if call.mlflow else None


@dataclass
class Named:
    """What asks for MLflow without training arguments; see :class:`raytrainer.tracking_target.Asked`."""

    report_to: str | list[str] | None
    run_name: str | None


class Records:
    """Driver: run.json and the MLflow run, made when a training of the script begins.

    Args:
        call: what was asked for.
        target: the MLflow run; None for none.
    """

    def __init__(self, call: ScriptCall, target: Target | None) -> None:
        self.storage = _storage(call)
        self.folder: Store | None = None
        if self.storage is not None:
            self.folder = Store(join(self.storage.path, self.storage.name))
        self._recorder = Deferred(self._record, (Began,))
        self.target = target
        self._tracker = Deferred(self._track)
        self._run_folder = ""
        self.sinks: list[Sink] = [self._recorder, *([self._tracker] if target else [])]

    def _record(self, event: Event) -> Sink:
        assert isinstance(event, Began)
        folder = self.folder or Store(on_this_machine(event.arguments["output_dir"]))
        self._run_folder = folder.path
        return Recorder(folder, RunRecord(command_of_this_program(), os.getcwd()))

    def _track(self, event: Event) -> Sink:
        assert self.target is not None
        # A script that only evaluates tells no output_dir; this is transformers' own default.
        place = event.arguments["output_dir"] if isinstance(event, Began) else "trainer_output"
        folder = self.folder or Store(on_this_machine(place))
        # That the store can be used was found out before; now the workers are there, and nobody waits for its sake.
        return open_tracker(self.target, folder, again=asked_to_resume(folder.path), wait=False)

    def how_to_go_on(self, saved: int | None) -> str:
        """Say what a run that was stopped has left."""
        recorder = self._recorder.sink
        record = recorder.record if isinstance(recorder, Recorder) else RunRecord(None, "")
        return how_to_go_on(record, self._run_folder, saved)

    def say_where(self) -> None:
        """Say where the run can be looked at."""
        if isinstance(self._tracker.sink, Tracker):
            print(f"MLflow: {ui_command(self._tracker.sink)}", file=sys.stderr, flush=True)


@dataclass
class _Storage:
    path: str
    name: str


def _storage(call: ScriptCall) -> _Storage | None:
    if call.storage_path is None:
        return None
    # The command that is repeated to go on with a run need not have named it.
    again = os.environ.get(RESUME_VARIABLE, "").partition("?")[0].rstrip("/")
    stem = call.script.rpartition(".")[2] if call.module else Path(call.script).stem
    name = call.name or os.path.basename(again) or f"{stem}-{time.strftime('%Y-%m-%d-%H-%M-%S')}"
    return _Storage(on_this_machine(call.storage_path), name)

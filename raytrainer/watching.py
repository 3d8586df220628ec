"""Driver: a job, and all who watch it: the progress, MLflow, the run's record."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys

from ray.train.v2._internal.constants import VALIDATE_STORAGE_MARKER_FILENAME

from raytrainer.checkpoints import Store
from raytrainer.errors import Interrupted
from raytrainer.events import Note
from raytrainer.job import Job
from raytrainer.progress import Progress
from raytrainer.run import Outcome, fit
from raytrainer.run_record import Recorder, RunRecord, command_of_this_program, how_to_go_on
from raytrainer.sinks import Sink
from raytrainer.tracking import Tracker, ui_command

_DOING = {"train": "training", "evaluate": "evaluation", "predict": "prediction", "inspect": "check"}


def watched_fit(job: Job, tracker: Tracker | None, folder: Store) -> Outcome:
    """Run a job; show how far it is, record it, and say how to go on with a training that was stopped.

    Args:
        job: what to run; its sinks are told too.
        tracker: writes to MLflow, None for nowhere.
        folder: the run's, for the record of a training.

    Returns:
        What the job brought.

    Raises:
        Exception: as :func:`raytrainer.run.fit`.
    """
    progress = Progress(description=_DOING[job.action])
    sinks: list[Sink] = [*([tracker] if tracker else []), progress, *job.sinks]
    if tracker and job.action == "train":
        progress.handle(Note(f"MLflow: {ui_command(tracker)}"))
    recorder = Recorder(folder, RunRecord(command_of_this_program(), os.getcwd()))
    if job.action == "train":
        sinks.append(recorder)
    try:
        return fit(dataclasses.replace(job, sinks=sinks))
    except Interrupted as stop:
        if job.action == "train":
            print(how_to_go_on(recorder.record, folder.path, stop.step), file=sys.stderr, flush=True)
        raise


def sweep(storage: str, name: str) -> None:
    """Remove the folders that Ray Train made for this run, where there is nothing in them but its marker."""
    with contextlib.suppress(OSError):  # there is something in it, or it is not on this machine
        os.remove(os.path.join(storage, name, VALIDATE_STORAGE_MARKER_FILENAME))
        os.rmdir(os.path.join(storage, name))
        os.rmdir(storage)

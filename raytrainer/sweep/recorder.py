"""A trial's own record: what it was trained with, and every evaluation."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from raytrainer.checkpoints import Store
from raytrainer.events import Began, Evaluated, Event, Logged, Note
from raytrainer.patience import patiently
from raytrainer.sweep.record_files import read_trial, write_trial
from raytrainer.sweep.records import Change, Evaluation, TrialRecord


class Recorder:
    """Trial's process: keeps trial.json; a sink of the training.

    Args:
        folder: the sweep's.
        record: of the trial as it begins; what its trial.json has already is taken over.

    Attributes:
        record: as it is now.
        warnings: what the user should see, and has not been told yet.
        last_logged: the newest evaluation that was logged, for scripts that evaluate when their training is over.
    """

    def __init__(self, folder: Store, record: TrialRecord) -> None:
        self._folder = folder
        self.warnings: list[str] = []
        self.last_logged: Evaluated | None = None
        try:
            before = read_trial(folder, record.number)
        except (FileNotFoundError, ValueError):
            before = None
        if before is not None and before.id == record.id:
            # A clone has its donor's config; what was drawn for it at first, and by whom, stays.
            names = ("origin", "group", "sampled", "values", "began", "seconds", "history", "changes", "arguments")
            kept = {name: getattr(before, name) for name in names}
            record = dataclasses.replace(record, **kept, max_steps=before.max_steps, attempts=before.attempts + 1)
        self.record = record
        self._before, self._since = record.seconds, time.monotonic()

    def change(self, step: int, values: Mapping[str, Any], donor: str, donor_number: int) -> None:
        """Note that the trial goes on from another one's weights, with other values."""
        change = Change(step, dict(values), donor, donor_number)
        # The same again: it failed before it had a checkpoint of its own.
        if self.record.changes[-1:] != (change,):
            self.record = dataclasses.replace(self.record, changes=(*self.record.changes, change))

    def evaluated(self, evaluated: Evaluated) -> None:
        """Note an evaluation and write; one that is made again after a resume takes the place of the first."""
        entry = Evaluation(evaluated.step, evaluated.epoch, evaluated.time, self._seconds(), evaluated.metrics)
        history = (*(known for known in self.record.history if known.step < evaluated.step), entry)
        self.record = dataclasses.replace(self.record, history=history, max_steps=evaluated.max_steps)
        self.write()

    def write(self) -> None:
        """Write trial.json."""
        self.record = dataclasses.replace(self.record, seconds=self._seconds())
        patiently(lambda: write_trial(self._folder, self.record), print)

    def handle(self, event: Event) -> None:
        if isinstance(event, Began):
            self.record = dataclasses.replace(
                self.record, arguments=event.arguments, max_steps=event.max_steps, workers=event.world_size
            )
            self.write()
        elif isinstance(event, Note) and event.warning:
            self.warnings.append(event.text)
        elif isinstance(event, Logged) and any(name.startswith("eval_") for name in event.metrics):
            self.last_logged = Evaluated(event.step, event.max_steps, event.epoch, event.metrics, event.time)

    def close(self, error: BaseException | None) -> None:
        pass

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._since

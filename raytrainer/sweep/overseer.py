"""What the driver does while Ray Tune runs the trials: it notes, asks for checkpoints, deletes them, cleans up."""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial
from ray.tune.result import SHOULD_CHECKPOINT

from raytrainer.checkpoints import Store
from raytrainer.patience import patiently
from raytrainer.ray_train import free_slots_of_the_dead
from raytrainer.sweep.budget import Budget
from raytrainer.sweep.record_files import trial_checkpoints, write_end
from raytrainer.sweep.records import End, SweepRecord
from raytrainer.sweep.records import Trial as SweptTrial
from raytrainer.sweep.scores import score
from raytrainer.sweep.standings import Standings, Stored
from raytrainer.sweep.suggestions import GROUP
from raytrainer.sweep.telling import Lead, TrialEnded
from raytrainer.sweep.trial import LAST, POINTER, WARNINGS
from raytrainer.sweep.view import Row, View
from raytrainer.sweep.wording import cause

# Seconds between two looks for what dead trials have left, where trials have workers of their own.
_CLEAN_EVERY_S = 2.0


class Overseer(Callback):
    """Driver: told by Ray Tune of everything that happens to trials.

    Args:
        folder: the sweep's.
        metric: the objective; of several the first, which says whose checkpoints stay.
        standings: who is ahead.
        budget: what is left.
        view: what the user sees.
        complete: makes of what was sampled what a trial trains with.
        scheduler: its name, the reason why a trial is stopped early.
        gpus: of a trial's workers together, by its values.
        apart: whether trials have workers of their own, which may outlive them.
        lent: returns the paths of Ray Tune's checkpoints that the scheduler may yet give to another trial.
        tell: is told of each trial's end, and who leads; returns at once.
    """

    def __init__(
        self,
        folder: Store,
        metric: str,
        standings: Standings,
        budget: Budget,
        view: View,
        complete: Callable[[Mapping[str, Any]], dict[str, Any]],
        scheduler: str,
        gpus: Callable[[Mapping[str, Any]], float],
        apart: bool,
        lent: Callable[[], set[str]] = set,
        tell: Callable[[object], None] = lambda _: None,
    ) -> None:
        self._folder, self._metric, self._standings = folder, metric, standings
        self._budget, self._view, self._complete = budget, view, complete
        self._scheduler, self._gpus, self._apart = scheduler, gpus, apart
        self._lent, self._pointers = lent, dict[str, Stored | None]()
        self._tell = tell
        self._lead: tuple[int, float | None] = (0, None)
        self._earlier: dict[int, TrialEnded] = {}
        self._asked: set[Stored] = set()
        self._unneeded: set[Stored] = set()
        self._untidy: set[int] = set()
        self._open: list[Trial] = []
        self._met = 0
        self._deleting = ThreadPoolExecutor(1, thread_name_prefix="raytrainer-retention")
        self._cleaned = time.monotonic()
        self.failures: dict[int, str] = {}

    def take_up(self, trials: list[SweptTrial], sweep: SweepRecord) -> None:
        """Take over what there is of a sweep that goes on: what its trials came to, spent and stored."""
        for trial in sorted(trials, key=_last_seen):
            number, record = trial.record.number, trial.record
            self._budget.spent[number] = record.seconds * record.gpus
            self._budget.worked |= bool(record.history)
            step = record.history[-1].step if record.history else 0
            self._earlier[number] = TrialEnded(number, trial.end or End("interrupted"), step, record.values, True)
            counted = score(trial, sweep)
            if trial.state not in ("finished", "stopped") or counted.evaluation is None:
                continue
            row = Row(number, {}, record.values, trial.state, step, record.max_steps)
            row.score, row.seconds = counted.values[0], record.seconds
            self._view.add(row)
            if self._standings.counts(number, counted.values[0], True, record.group):
                for step in trial.checkpoints:
                    best = step == counted.evaluation.step
                    self._unneeded.update(self._standings.stored(Stored(number, step), best))
            self._standings.ended(number, record.group)
        self._budget.without_better = self._standings.without_better
        self._lead = self._leading()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        # Averages over the last results that nobody asks for: 20 kB a trial, for ever.
        trial.run_metadata._n_steps = ()  # type: ignore[assignment]  # it is annotated as one number
        self._view.move(self._row(trial), "running")

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        for text in result.pop(WARNINGS, ()):
            self._view.say(text, warning=True)
        row = self._row(trial)
        self._view.move(row, "running")
        row.step, row.max_steps = result["step"], result["max_steps"]
        row.score, row.seconds = result.get(self._metric), result["seconds"]
        self._budget.spent[row.number] = row.seconds * self._gpus(row.values)
        self._budget.worked = True
        last = bool(result.pop(LAST, False) or result.get("done")) or row.step >= row.max_steps
        if row.score is not None and self._standings.counts(row.number, row.score, last, trial.config.get(GROUP)):
            # Ray Tune looks at it next, and asks the trial to save while it stands at this evaluation.
            result[SHOULD_CHECKPOINT] = True
            self._asked.add(Stored(row.number, row.step))
        self._view.evaluated(row)
        self._tell_lead()

    def on_checkpoint(
        self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any
    ) -> None:
        stored = self._stored_at(checkpoint.path)
        if stored is not None:
            self._unneeded.update(self._standings.stored(stored, stored in self._asked))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        row = self._row(trial)
        finished = row.step >= row.max_steps
        # FIFO stops nothing: then it was a condition of the user's.
        reason = "stop" if self._scheduler == "fifo" else self._scheduler
        self._end(row, End("finished") if finished else End("stopped", reason))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        row = self._row(trial)
        file = trial.error_file
        error = Path(file).read_text().strip() if file and os.path.exists(file) else ""
        self.failures[row.number] = error
        self._budget.failed += 1
        self._end(row, End("failed", error=error[-4000:]))

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if self._unneeded or self._untidy:
            # Of thousands of trials few are open, and Ray Tune's list only grows.
            self._open = [trial for trial in (*self._open, *trials[self._met :]) if not trial.is_finished()]
            self._met = len(trials)
            waiting = [trial.checkpoint for trial in self._open]
            paths = self._lent() | {checkpoint.path for checkpoint in waiting if checkpoint is not None}
            self._delete({stored for path in paths if (stored := self._stored_at(path)) is not None})
        if self._apart and time.monotonic() - self._cleaned > _CLEAN_EVERY_S:
            self._cleaned = time.monotonic()
            free_slots_of_the_dead()

    def finish(self, state: str, reason: str | None) -> None:
        """Note how the trials ended that were still at it, and delete what nobody needs."""
        for row in self._view.rows.values():
            if row.state in ("waiting", "running", "paused"):
                self._end(row, End(state, reason))
        for ended in self._earlier.values():
            self._tell(ended)
        if state != "interrupted":
            self._unneeded.update(self._standings.over())
            self._delete(set())
        self._deleting.shutdown()
        if self._apart:
            free_slots_of_the_dead()
        self._view.close()

    def _row(self, trial: Trial) -> Row:
        number = int(posixpath.basename(trial.storage.trial_fs_path))  # type: ignore[union-attr]  # Ray Tune set it
        row = self._view.row(number)
        if row.sampled is not trial.config or not row.values:
            row.sampled, row.values = trial.config, self._complete(trial.config)
        return row

    def _end(self, row: Row, end: End) -> None:
        self._view.move(row, end.state)
        patiently(lambda: write_end(self._folder, row.number, end), lambda text: self._view.say(text, warning=True))
        if end.state != "interrupted":
            self._unneeded.update(self._standings.ended(row.number, row.sampled.get(GROUP)))
            self._budget.without_better = self._standings.without_better
            self._untidy.add(row.number)
        self._view.ended(row, end.reason or cause(end.error or "") or None)
        self._earlier.pop(row.number, None)
        self._tell(TrialEnded(row.number, end, row.step, row.values))
        self._tell_lead()

    def _leading(self) -> tuple[int, float | None]:
        """Return how many trials are over, and the best score."""
        best = self._standings.best()
        return self._view.over, None if best is None else self._standings.scores[best]

    def _tell_lead(self) -> None:
        lead = self._leading()
        if lead != self._lead:
            self._lead = lead
            over, best = lead
            if best is not None:
                self._tell(Lead(over, best, time.time()))

    def _delete(self, lent: set[Stored]) -> None:
        """Delete what nobody needs, but for what another trial begins with, or one goes on from."""
        for stored in sorted(self._unneeded - lent, key=lambda one: (one.number, one.step)):
            self._deleting.submit(_remove, trial_checkpoints(self._folder, stored.number), stored.step)
        self._unneeded &= lent
        tidied = self._untidy - {stored.number for stored in lent}
        for number in tidied:
            needed = {stored.step for stored in self._standings.needed() if stored.number == number}
            self._deleting.submit(_remove_others, trial_checkpoints(self._folder, number), needed)
        self._untidy -= tidied

    def _stored_at(self, path: str) -> Stored | None:
        """Return the checkpoint that one of Ray Tune's points to; None for one of a trial that had none yet."""
        if path not in self._pointers:
            # As this folder's: Ray Tune's paths have lost their scheme.
            below = path.split("/")[-3:]
            pointer = json.loads(self._folder.read(posixpath.join(*below, POINTER)))
            step = pointer.get("step")
            self._pointers[path] = None if step is None else Stored(pointer["number"], step)
        return self._pointers[path]


def _last_seen(trial: SweptTrial) -> float:
    """Return when a trial was evaluated last: nothing that it leaves says when it ended."""
    return trial.record.history[-1].time if trial.record.history else trial.record.began


def _remove_others(store: Store, needed: set[int]) -> None:
    """Delete what a trial saved for itself, to go on from after a fault."""
    with contextlib.suppress(OSError):
        for step in store.steps():
            if step not in needed:
                _remove(store, step)


def _remove(store: Store, step: int) -> None:
    # One that stays costs room, and stops nothing.
    with contextlib.suppress(OSError):
        store.remove(step)

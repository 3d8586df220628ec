"""Driver: a sweep in MLflow: a run of its own, and under it one for each trial."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

import ray

from raytrainer.checkpoints import Store, join
from raytrainer.listener import Listener
from raytrainer.patience import patiently
from raytrainer.relay import relay_here
from raytrainer.secrets import masked
from raytrainer.sweep.record_files import trial_folder
from raytrainer.sweep.records import TrialRecord
from raytrainer.sweep.results import Results
from raytrainer.sweep.telling import Lead, Told, TrialEnded
from raytrainer.tracking import Tracker, open_child, open_tracker, ui_command
from raytrainer.tracking_entry import STATUSES, Entry, Point, State
from raytrainer.tracking_journal import read_journals
from raytrainer.tracking_sink import metric_name
from raytrainer.tracking_target import Target
from raytrainer.tracking_writer import Writer

# What a sweep leaves in its folder that belongs to its run.
_ARTIFACTS = ("config.yaml", "sweep.json", "results.csv", "results.json", "best.yaml", "report.html")
_ERROR_LINES = 5
# Seconds that a storage may fail before a trial's run is given up.
_GIVE_UP_S = 120.0


class SweepTracking:
    """Driver: records a sweep in MLflow; a sink of what the trials and the overseer tell.

    Args:
        tracker: of the sweep's own run.
        folder: the sweep's.
        metric: the first objective.
    """

    def __init__(self, tracker: Tracker, folder: Store, metric: str) -> None:
        self.tracker, self._folder, self._metric = tracker, folder, metric
        self._trials: dict[int, Tracker] = {}

    def handle(self, message: object) -> None:
        """Take what is to be written; never raises for the storage's sake."""
        # A storage that fails is fault tolerance on purpose: what is lost then is MLflow's copy.
        with contextlib.suppress(OSError):
            match message:
                case Told(number, said):
                    for each in said:
                        if isinstance(each, TrialRecord):
                            self._begin(each)
                        elif number in self._trials:
                            self._trials[number].handle(each)
                case TrialEnded():
                    self._end(message)
                case Lead():
                    values = {f"best_{self._metric}": message.best}
                    self.tracker.add(Entry(points=_points(values, message.over, message.time)))

    def conclude(self, results: Results) -> None:
        """Record what the sweep came to: the best trial and the files that it left."""
        tags = {} if results.sweep.stopped_by is None else {"stopped_early": results.sweep.stopped_by}
        if (best := results.best) is not None:
            tags |= {"best_trial": self._name(best.number)}
            tags |= {f"best.{key}": _text(value) for key, value in best.values.items()}
        self.tracker.add(Entry(tags=tags))
        names = set(self._folder.files(""))
        place, texts = self._folder, [name for name in _ARTIFACTS if name in names]
        if place.filesystem is None:
            self.tracker.add(Entry(files={name: join(place.path, name) for name in texts}))
        else:
            self.tracker.add(Entry(texts={name: place.read(name).decode() for name in texts}))

    def trial(self, number: int) -> Tracker:
        """Return the run of a trial, which is over."""
        return self._trials.get(number) or self._open(number, {}, goes_on=False)

    def close(self, error: BaseException | None) -> None:
        """Write the sweep's end state and all that waits."""
        self.tracker.close(error)
        self.tracker.drain()

    def _begin(self, record: TrialRecord) -> None:
        number = record.number
        if number not in self._trials:
            tags = {"trial": str(number), "trial_id": record.id, "origin": record.origin}
            tags |= {} if record.group is None else {"group": str(record.group)}
            self._trials[number] = self._open(number, tags)
            self._put_values(number, record.values)
        tracker = self._trials[number]
        known = tracker.lineage
        values = dict(record.values)
        for lineage, change in enumerate(record.changes, 1):
            changed = {key: value for key, value in change.values.items() if values.get(key) != value}
            if lineage > known:
                first = {key: record.values.get(key) for key in changed} if lineage == 1 else {}
                points = _points(_numbers(first), 0, record.began)
                points += _points(_numbers(changed), change.step, time.time())
                tags = {f"now.{key}": _text(value) for key, value in changed.items() if not _is_number(value)}
                if change.donor_number is not None:
                    tags["clone_of"] = f"{self._name(change.donor_number)} at step {change.step}"
                tracker.add(Entry(points=points, tags=tags))
            values |= change.values
        tracker.branch(len(record.changes))

    def _end(self, ended: TrialEnded) -> None:
        number, end = ended.number, ended.end
        if ended.earlier and not self._lacks(number, STATUSES.get(end.state, "KILLED")):
            return
        if number not in self._trials:
            if not (ended.earlier or end.state == "failed" or read_journals(trial_folder(self._folder, number))):
                return  # it never began
            self._trials[number] = self._open(number, {"trial": str(number)}, goes_on=not ended.earlier)
            self._put_values(number, ended.values)
        tags = {"stopped_early": end.reason or "", "stopped_early_step": str(ended.step)}
        error = "\n".join((end.error or "").strip().splitlines()[-_ERROR_LINES:]) or None
        state = State(STATUSES.get(end.state, "KILLED"), int(time.time() * 1000), error)
        self._trials[number].add(Entry(tags=tags if end.state == "stopped" else {}, state=state))

    def _lacks(self, number: int, status: str) -> bool:
        """Tell whether the record of a trial's run is not whole, or not in the store."""
        journals = read_journals(trial_folder(self._folder, number))
        if not journals:
            return False
        entries = journals[-1].read()
        states = [entry.state.status for entry in entries if entry.state is not None]
        return states[-1:] != [status] or journals[-1].head.written < len(entries)

    def _open(self, number: int, tags: dict[str, str], goes_on: bool = True) -> Tracker:
        folder, name = trial_folder(self._folder, number), self._name(number)
        return patiently(lambda: open_child(self.tracker, folder, name, tags, goes_on), _say, _GIVE_UP_S)

    def _put_values(self, number: int, values: Mapping[str, Any]) -> None:
        self._trials[number].put_settings({key: _text(value) for key, value in values.items()})

    def _name(self, number: int) -> str:
        return f"{self.tracker.run.target.run_name}-{number:05d}"


@contextlib.contextmanager
def tracked(
    target: Target | None, folder: Store, metric: str, settings: Mapping[str, Any], again: bool
) -> Iterator[SweepTracking | None]:
    """Record a sweep in MLflow while the block runs, and say in the end where; to be entered before the first trial.

    Args:
        target: where to, with a name; None for nowhere.
        folder: the sweep's.
        metric: the first objective.
        settings: of the sweep, nested.
        again: whether to go on with the run that the record in the folder names, if there is one.

    Yields:
        What records it; None for nothing.

    Raises:
        UserError: the store cannot be reached or used, and is required.
    """
    if target is None:
        yield None
        return
    tracker = open_tracker(target, folder, again, Writer(target.tracking_uri))
    tracker.put_settings(dict(settings))
    tracking = SweepTracking(tracker, folder, metric)
    print(f"MLflow: {ui_command(tracker)}", file=sys.stderr, flush=True)
    try:
        yield tracking
    except BaseException as error:
        tracking.close(error)
        raise
    tracking.close(None)
    print(f"MLflow: {ui_command(tracker)}")


@contextlib.contextmanager
def told(tracking: SweepTracking | None) -> Iterator[Any]:
    """Record what is told inside the block.

    Yields:
        The actor that trials and driver tell; None where nothing is recorded.
    """
    if tracking is None:
        yield None
        return
    post, over = relay_here(), False
    try:
        with Listener(post, [tracking]):
            yield post
            over = True
    except ray.exceptions.RayError:
        # An actor that was killed costs MLflow what it was told, and not the sweep.
        if not over:
            raise
    finally:
        ray.kill(post)


def _points(values: Mapping[str, float], step: int, when: float) -> list[Point]:
    return [Point(metric_name(name), float(value), int(when * 1000), step) for name, value in values.items()]


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    # A bare name may be that of a metric that transformers logs: learning_rate.
    return {key if "." in key else f"value.{key}": value for key, value in values.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _say(text: str) -> None:
    print(f"warning: MLflow: {text}", file=sys.stderr)


def _text(value: Any) -> str:
    return masked(str(value))

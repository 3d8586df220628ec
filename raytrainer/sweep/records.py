"""sweep.json, and trial.json and end.json of every trial: all that a sweep leaves about itself, in its folder.

A trial's process writes its trial.json after every evaluation, the driver writes the others. What a newer version
adds is ignored, and a file that is missing or torn is told as such.
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from raytrainer.checkpoints import Store, join

SWEEP = "sweep.json"
TRIALS = "trials"
_TRIAL, _END = "trial.json", "end.json"
_READERS = 16

T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a trial.

    Args:
        step: optimizer steps done.
        epoch: epochs done, None where the trainer has none.
        time: when, in seconds since the Unix epoch.
        seconds: since the trial began.
        metrics: as transformers names them.
    """

    step: int
    epoch: float | None
    time: float
    seconds: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Change:
    """Other values for a trial that goes on, most often with the weights of a better one.

    Args:
        step: optimizer steps done when it happened.
        values: what is trained with from here on, by key.
        donor: id of the trial that the weights come from, None where it kept its own; ``from`` in the file.
        donor_number: that trial's number; ``from_number`` in the file.
    """

    step: int
    values: dict[str, Any]
    donor: str | None = None
    donor_number: int | None = None


@dataclass(frozen=True)
class TrialRecord:
    """trial.json: what a trial is, and how far it came.

    Args:
        id: Ray Tune's name for it.
        number: from 1, in order of creation.
        origin: where its values come from: ``default``, ``known``, ``random``, ``grid`` or ``model``.
        group: what repeats of one configuration share, None without repeats.
        sampled: what the searcher drew, by key.
        values: the same, completed: with expressions, without what does not apply.
        arguments: the TrainingArguments that a worker really used.
        max_steps: optimizer steps of a trial that is not stopped, 0 where that is not known.
        workers: how many train it.
        gpus: of all its workers together.
        began: when, in seconds since the Unix epoch.
        seconds: wall time so far, over all attempts.
        attempts: how often it was started.
        history: its evaluations, oldest first.
        changes: of its values while it trained, oldest first.
    """

    id: str
    number: int
    origin: str
    group: int | None = None
    sampled: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    max_steps: int = 0
    workers: int = 1
    gpus: float = 0.0
    began: float = 0.0
    seconds: float = 0.0
    attempts: int = 1
    history: tuple[Evaluation, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class End:
    """end.json: how a trial ended; there is none while it runs.

    Args:
        state: ``finished``, ``stopped``, ``failed`` or ``interrupted``.
        reason: who stopped it (``asha``), or why.
        error: the last lines of what broke it.
    """

    state: str
    reason: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class SweepRecord:
    """sweep.json: what was asked for, and how the sweep ended.

    Args:
        name: the sweep's.
        metric: the objectives, one or several.
        mode: ``min`` or ``max`` for each of them.
        scope: which evaluation of a trial counts, ``last`` or ``best``.
        search: the searcher's name, to its options.
        scheduler: the scheduler's name, to its options.
        seed: of the sweep.
        repeats: trials of one configuration.
        began: when, in seconds since the Unix epoch.
        ended: the same, None while it runs.
        state: ``running``, ``finished``, ``interrupted`` or ``failed``; one whose driver was killed says ``running``.
        stopped_by: what ended it before its last trial: ``time``, ``gpu_hours``, ``patience``, ``failures``; or None.
        space: how the config spells each key's range.
        concurrency: trials at a time, 0 where that is not known.
    """

    name: str
    metric: list[str]
    mode: list[str]
    scope: str = "last"
    search: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    repeats: int = 1
    began: float = 0.0
    ended: float | None = None
    state: str = "running"
    stopped_by: str | None = None
    space: dict[str, str] = field(default_factory=dict)
    concurrency: int = 0


@dataclass(frozen=True)
class Trial:
    """A trial's folder, read.

    Args:
        record: its trial.json; only the number is known where that cannot be read.
        end: its end.json, None while there is none.
        checkpoints: the steps that it has checkpoints of.
        damage: why trial.json cannot be read, None where it can.
    """

    record: TrialRecord
    end: End | None = None
    checkpoints: tuple[int, ...] = ()
    damage: str | None = None

    @property
    def state(self) -> str:
        """``finished``, ``stopped``, ``failed``, ``interrupted``, ``running`` or ``unreadable``."""
        ended = None if self.end is None else self.end.state
        if self.damage is not None and ended not in ("failed", "interrupted"):
            return "unreadable"  # what it came to is lost
        return ended or "running"


def trial_folder(folder: Store, number: int) -> Store:
    """Return a trial's folder in the sweep's."""
    return Store(join(folder.path, TRIALS, f"{number:05d}"), folder.filesystem)


def write_sweep(folder: Store, record: SweepRecord) -> None:
    """Write sweep.json.

    Args:
        folder: the sweep's.
        record: what to write.

    Raises:
        OSError: it cannot be written.
    """
    folder.write(SWEEP, _to_json(record))


def write_trial(folder: Store, record: TrialRecord) -> None:
    """Write a trial's trial.json.

    Args:
        folder: the sweep's.
        record: what to write.

    Raises:
        OSError: it cannot be written.
    """
    folder.write(_name(record.number, _TRIAL), _to_json(record))


def write_end(folder: Store, number: int, end: End) -> None:
    """Write a trial's end.json.

    Args:
        folder: the sweep's.
        number: the trial's.
        end: what to write.

    Raises:
        OSError: it cannot be written.
    """
    folder.write(_name(number, _END), _to_json(end))


def read_sweep(folder: Store) -> SweepRecord:
    """Read sweep.json.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is none of ours.
    """
    record = _read(SweepRecord, _from_json(folder.read(SWEEP)))
    if not record.metric or len(record.metric) != len(record.mode):
        raise ValueError("metric and mode do not belong together")
    return record


def read_trial(folder: Store, number: int) -> TrialRecord:
    """Read a trial's trial.json.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is none of ours.
    """
    values = _from_json(folder.read(_name(number, _TRIAL)))
    try:
        history = tuple(_evaluation(entry) for entry in values.pop("history", ()))
        changes = tuple(_change(entry) for entry in values.pop("changes", ()))
        return dataclasses.replace(_read(TrialRecord, values), history=history, changes=changes)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no record of a trial: {error!r}") from error


def read_end(folder: Store, number: int) -> End | None:
    """Read a trial's end.json; None where there is none that can be read."""
    try:
        return _read(End, _from_json(folder.read(_name(number, _END))))
    except (FileNotFoundError, ValueError):
        return None


def read_trials(folder: Store) -> list[Trial]:
    """Read all trials of a sweep, in order of creation; none is left out because its files are damaged."""
    names = [name for name in folder.folders(TRIALS) if name.isdecimal()]
    with ThreadPoolExecutor(_READERS) as readers:  # an object store answers slowly, and many at a time
        return list(readers.map(lambda number: _trial(folder, number), sorted(map(int, names))))


def _trial(folder: Store, number: int) -> Trial:
    record, damage = TrialRecord(id="", number=number, origin=""), None
    try:
        record = read_trial(folder, number)
    except FileNotFoundError:
        damage = f"there is no {_TRIAL}"
    except (ValueError, OSError) as error:
        damage = f"{_TRIAL} cannot be read: {error}"
    checkpoints = Store(join(trial_folder(folder, number).path, "checkpoints"), folder.filesystem)
    return Trial(record, read_end(folder, number), tuple(checkpoints.steps()), damage)


def _name(number: int, file: str) -> str:
    return posixpath.join(TRIALS, f"{number:05d}", file)


def _to_json(record: object) -> bytes:
    return (json.dumps(record, default=_plain) + "\n").encode()


def _plain(value: Any) -> Any:
    """Return what JSON has for a value: of a record its fields, of NumPy's numbers Python's."""
    if isinstance(value, Change):
        return {"step": value.step, "values": value.values, "from": value.donor, "from_number": value.donor_number}
    if dataclasses.is_dataclass(value):
        return vars(value)
    return value.item() if hasattr(value, "item") else str(value)


def _from_json(content: bytes) -> dict[str, Any]:
    values = json.loads(content)
    if not isinstance(values, dict):
        raise ValueError(f"no mapping: {values!r}")
    return values


def _read(kind: type[T], values: Mapping[str, Any]) -> T:
    known = {entry.name for entry in dataclasses.fields(kind)}  # type: ignore[arg-type]
    try:
        return kind(**{name: value for name, value in values.items() if name in known})
    except TypeError as error:
        raise ValueError(str(error)) from error


def _evaluation(values: dict[str, Any]) -> Evaluation:
    metrics = {name: float(value) for name, value in values.pop("metrics").items() if isinstance(value, (int, float))}
    return _read(Evaluation, {"epoch": None, **values, "metrics": metrics})


def _change(values: dict[str, Any]) -> Change:
    return _read(Change, {**values, "donor": values.get("from"), "donor_number": values.get("from_number")})

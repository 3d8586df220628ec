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
from typing import Any, TypeVar

from raytrainer.checkpoints import Store
from raytrainer.sweep.records import Change, End, Evaluation, SweepRecord, Trial, TrialRecord

TRIALS = "trials"
_SWEEP, _TRIAL, _END = "sweep.json", "trial.json", "end.json"
_READERS = 16

T = TypeVar("T")


def trial_folder(folder: Store, number: int) -> Store:
    """Return a trial's folder in the sweep's."""
    return folder.below(TRIALS, folder_name(number))


def trial_checkpoints(folder: Store, number: int) -> Store:
    """Return the folder of a trial's checkpoints."""
    return trial_folder(folder, number).below("checkpoints")


def folder_name(number: int) -> str:
    """Return the name of a trial's folder: its number, from 1."""
    return f"{number:05d}"


def write_sweep(folder: Store, record: SweepRecord) -> None:
    """Write sweep.json.

    Args:
        folder: the sweep's.
        record: what to write.

    Raises:
        OSError: it cannot be written.
    """
    folder.write(_SWEEP, _to_json(record))


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
    record = _read(SweepRecord, _from_json(folder.read(_SWEEP)))
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
    steps = trial_checkpoints(folder, number).steps()
    return Trial(record, read_end(folder, number), tuple(steps), damage)


def _name(number: int, file: str) -> str:
    return posixpath.join(TRIALS, folder_name(number), file)


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
    known = {entry.name for entry in dataclasses.fields(kind)}  # type: ignore[arg-type]  # a dataclass
    try:
        return kind(**{name: value for name, value in values.items() if name in known})
    except TypeError as error:
        raise ValueError(str(error)) from error


def _evaluation(values: dict[str, Any]) -> Evaluation:
    metrics = {name: float(value) for name, value in values.pop("metrics").items() if isinstance(value, (int, float))}
    return _read(Evaluation, {"epoch": None, **values, "metrics": metrics})


def _change(values: dict[str, Any]) -> Change:
    return _read(Change, {**values, "donor": values.get("from"), "donor_number": values.get("from_number")})

"""What is to be written to an MLflow run, and the line in which the run's own record keeps it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Point(NamedTuple):
    """A metric's value at a step, at a time in milliseconds since the Unix epoch."""

    name: str
    value: float
    time: int
    step: int


class Data(NamedTuple):
    """A dataset that a run read: what MLflow calls an input.

    ``context`` is ``training``, ``evaluation`` or ``test``; ``source`` says where it came from, in words or as an
    address; ``rows`` is None where it has no length.
    """

    name: str
    digest: str
    context: str
    source: str
    rows: int | None


class Model(NamedTuple):
    """A trained model: where its folder is, and what becomes of it.

    ``key`` names it in the store, so that it is put there once; ``name`` and ``alias`` are the registry's, None for
    nothing; ``metric`` and ``value`` are what it is known by.
    """

    place: str
    key: str
    name: str | None = None
    alias: str | None = None
    metric: str | None = None
    value: float | None = None


STATUSES = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
"""MLflow's words for how a run, a sweep or a trial ended by its own record."""


class State(NamedTuple):
    """How a run ended: MLflow's ``FINISHED``, ``FAILED`` or ``KILLED``, and when, in milliseconds.

    ``RUNNING`` is kept where a driver goes on with it: what was noted before does not count any more.
    """

    status: str
    time: int
    error: str | None = None


@dataclass(frozen=True)
class Entry:
    """Something to be written to a run. To write it twice is the same as to write it once.

    Args:
        points: values of metrics.
        params: names to values; a run's parameter cannot be changed.
        tags: names to values.
        texts: names of artifacts to their contents.
        files: names of artifacts to where the file or folder is, a local path or a URI.
        data: the datasets that the run read.
        model: the model that the run trained.
        state: how the run ended; ``RUNNING`` where it goes on.
        training: which training of a script the points are of, from 0; each counts its steps anew.
    """

    points: Sequence[Point] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    data: Sequence[Data] = ()
    model: Model | None = None
    state: State | None = None
    training: int = 0

    def to_line(self) -> str:
        """Return it as a line of JSON, without the end of the line."""
        given = {name: value for name, value in vars(self).items() if value}
        return json.dumps(given, separators=(",", ":"), default=dict)

    @classmethod
    def from_line(cls, line: str) -> Entry:
        """Read what ``to_line`` wrote; what a newer version added is ignored.

        Raises:
            ValueError: it is something else, or torn.
        """
        names = {each.name for each in dataclasses.fields(cls)}
        try:
            given: dict[str, Any] = {name: value for name, value in json.loads(line).items() if name in names}
            for name, kind in (("points", Point), ("data", Data)):
                given[name] = [kind(*each) for each in given.get(name, ())]
            given["state"] = State(*given["state"]) if given.get("state") else None
            given["model"] = Model(*given["model"]) if given.get("model") else None
            return cls(**given)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"no entry: {error}") from error

"""Moves constructor arguments to the workers: Arrow tables and tensors through the object store, once a node.

Everything else travels as one pickle in memory, so that what is shared stays shared (an optimizer and its model's
parameters, tied weights). Nothing here is ever written to storage or read from it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from raytrainer.errors import Problem, ShippingError
from raytrainer.pickling import Bytes, Named, Pickler, Unpickler, to_ipc

if TYPE_CHECKING:
    from datasets import Dataset
    from datasets.table import Table


@dataclass(frozen=True)
class Parcel:
    """Something packed for the workers: small, and picklable by Ray.

    Args:
        pickled: the pickle, without tables and tensors.
        tables: one object a table, an Arrow IPC stream as uint8.
        storages: one object with all tensor storages as uint8 by key, None without any.
    """

    pickled: bytes
    tables: tuple[ray.ObjectRef[Bytes], ...]
    storages: ray.ObjectRef[dict[int, Bytes]] | None


class Shipper:
    """Packs on the driver, and remembers the tables that are in the object store already.

    A table is put there once for the life of the shipper, however many jobs use it.

    Args:
        base: a shipper whose tables this one uses; what it adds is its own.
    """

    def __init__(self, base: Shipper | None = None) -> None:
        # The table is kept beside its reference: an id is unique only while its object lives.
        self._tables: dict[int, tuple[object, ray.ObjectRef[Bytes]]] = dict(base._tables) if base else {}
        self._flat: dict[int, tuple[Dataset, Table]] = dict(base._flat) if base else {}

    def pack(self, thing: object, named: Named = lambda _: None) -> Parcel:
        """Pack one object.

        Args:
            thing: what to pack.
            named: gives a name to an object that shall not travel, because the worker has its own in its place.

        Returns:
            The parcel.

        Raises:
            Exception: whatever pickling raises; :func:`explain` finds out which argument is to blame.
        """
        file = io.BytesIO()
        pickler = Pickler(file, self, named)
        pickler.dump(thing)  # type: ignore[no-untyped-call]  # cloudpickle carries no types
        storages = ray.put(pickler.storages) if pickler.storages else None
        return Parcel(file.getvalue(), tuple(pickler.tables), storages)

    def put_table(self, table: Table) -> ray.ObjectRef[Bytes]:
        """Put a table into the object store, unless it is there; return its reference."""
        if id(table) not in self._tables:
            self._tables[id(table)] = (table, ray.put(to_ipc(table.table)))
        return self._tables[id(table)][1]

    def flattened(self, dataset: Dataset) -> Table:
        """Return the rows that a dataset selects, the same table at every call."""
        if id(dataset) not in self._flat:
            from datasets.formatting import query_table
            from datasets.table import InMemoryTable

            rows = query_table(dataset._data, slice(0, len(dataset)), indices=dataset._indices)
            self._flat[id(dataset)] = (dataset, InMemoryTable(rows))
        return self._flat[id(dataset)][1]


def unpack(parcel: Parcel, named: dict[str, object] | None = None) -> Any:
    """Unpack on a worker; tables stay in the node's object store, mapped; tensors are copied out of it.

    Args:
        parcel: as :meth:`Shipper.pack` made it.
        named: what stands for each name that the packing gave.

    Returns:
        The object.
    """
    tables = ray.get(list(parcel.tables))
    storages = ray.get(parcel.storages) if parcel.storages is not None else {}
    return Unpickler(io.BytesIO(parcel.pickled), tables, storages, named or {}).load()


def explain(failure: Exception, parts: dict[str, object], named: Named) -> ShippingError:
    """Find out which constructor arguments cannot travel.

    Args:
        failure: what packing all of them raised.
        parts: argument name to value.
        named: as in :meth:`Shipper.pack`.

    Returns:
        An error that names every argument that cannot be pickled, and why.
    """
    problems = []
    for name, value in parts.items():
        try:
            Pickler(io.BytesIO(), _Nowhere(), named).dump(value)  # type: ignore[no-untyped-call]  # as above
        except Exception as reason:
            problems.append(_cannot_travel(name, value, reason))
    return ShippingError(*(problems or [_cannot_travel("the trainer", ", ".join(parts), failure)]))


def _cannot_travel(name: str, value: object, reason: Exception) -> Problem:
    return Problem(
        setting=name,
        value=_short(value),
        reason=f"it cannot travel to the workers ({type(reason).__name__}: {reason})",
        fix="make it where it is used, on the worker: in model_init, in the constructor of a trainer class of your own,"
        " or in a callback's on_train_begin",
    )


def _short(value: object) -> str:
    text = value if isinstance(value, str) else f"{type(value).__module__}.{type(value).__qualname__} object"
    return text if len(text) < 80 else text[:77] + "..."


class _Nowhere:
    """A depot that keeps nothing; for trying whether something pickles."""

    def put_table(self, table: Table) -> Any:
        return None

    def flattened(self, dataset: Dataset) -> Table:
        return dataset._data

"""Moves constructor arguments to the workers: Arrow tables and tensors through the object store, once a node.

Everything else travels as one pickle in memory, so that what is shared stays shared (an optimizer and its model's
parameters, tied weights). Nothing here is ever written to storage or read from it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray
from ray import cloudpickle

from raytrainer.errors import Problem, ShippingError

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from datasets.table import Table

Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]
PersistentId = tuple[str, Any]
Named = Callable[[object], str | None]


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
    """

    def __init__(self) -> None:
        # The table is kept beside its reference: an id is unique only while its object lives.
        self._tables: dict[int, tuple[object, ray.ObjectRef[Bytes]]] = {}
        self._flat: dict[int, tuple[Dataset, Table]] = {}

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
        pickler = _Pickler(file, self, named)
        pickler.dump(thing)
        storages = ray.put(pickler.storages) if pickler.storages else None
        return Parcel(file.getvalue(), tuple(pickler.tables), storages)

    def put_table(self, table: Table) -> ray.ObjectRef[Bytes]:
        if id(table) not in self._tables:
            self._tables[id(table)] = (table, ray.put(_to_ipc(table.table)))
        return self._tables[id(table)][1]

    def flattened(self, dataset: Dataset) -> Table:
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
    return _Unpickler(io.BytesIO(parcel.pickled), tables, storages, named or {}).load()


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
            _Pickler(io.BytesIO(), _Nowhere(), named).dump(value)
        except Exception as reason:
            problems.append(_cannot_travel(name, value, reason))
    return ShippingError(*(problems or [_cannot_travel("the trainer", ", ".join(parts), failure)]))


def _cannot_travel(name: str, value: object, reason: Exception) -> Problem:
    return Problem(
        setting=name,
        value=_short(value),
        reason=f"it cannot travel to the workers ({type(reason).__name__}: {reason})",
        fix="open files, connections and locks where they are used: on the worker, for example in a function, in"
        " model_init, or in a callback's on_train_begin",
    )


def _short(value: object) -> str:
    text = value if isinstance(value, str) else f"{type(value).__module__}.{type(value).__qualname__} object"
    return text if len(text) < 80 else text[:77] + "..."


class _Nowhere(Shipper):
    """A shipper that puts nothing into the object store; for trying whether something pickles."""

    def put_table(self, table: Table) -> Any:
        return None

    def flattened(self, dataset: Dataset) -> Table:
        return dataset._data


# Ray's cloudpickle, not another copy: a class that travels by value is then the same class when it comes back.
class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle carries no types
    def __init__(self, file: io.BytesIO, shipper: Shipper, named: Named) -> None:
        import torch
        from datasets import Dataset
        from datasets.table import Table

        super().__init__(file, protocol=5)
        self._torch, self._dataset, self._table = torch, Dataset, Table
        self.shipper, self.named = shipper, named
        self.tables: list[Any] = []
        self.storages: dict[int, Bytes] = {}
        self._alive: list[object] = []  # keeps a CPU copy's id from being given to another storage

    def persistent_id(self, obj: Any) -> PersistentId | None:
        if (name := self.named(obj)) is not None:
            return "named", name
        if isinstance(obj, self._torch.storage.TypedStorage):
            return "storage", (self._keep(obj._untyped_storage), obj.dtype)
        if isinstance(obj, self._torch.UntypedStorage):
            return "storage", (self._keep(obj), None)
        if isinstance(obj, self._table):
            self.tables.append(self.shipper.put_table(obj))
            return "table", len(self.tables) - 1
        return None

    def reducer_override(self, obj: Any) -> Any:
        # A small selection of a large table: ship the rows selected, not the table and the selection.
        if isinstance(obj, self._dataset) and obj._indices is not None and len(obj._indices) < len(obj._data):
            state = {**obj.__dict__, "_data": self.shipper.flattened(obj), "_indices": None}
            return _restore, (type(obj), state)
        return super().reducer_override(obj)

    def _keep(self, storage: torch.UntypedStorage) -> int:
        key = storage._cdata
        if key not in self.storages:
            self._alive.append(storage)
            view = self._torch.empty(0, dtype=self._torch.uint8).set_(storage.cpu())  # type: ignore[call-overload]  # a storage
            self.storages[key] = view.numpy()
        return key


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, file: io.BytesIO, tables: list[Bytes], storages: dict[int, Bytes], named: dict[str, object]
    ) -> None:
        super().__init__(file)
        self._tables = [_from_ipc(table) for table in tables]
        self._bytes, self._named = storages, named
        self._storages: dict[int, torch.UntypedStorage] = {}

    def persistent_load(self, pid: PersistentId) -> Any:
        kind, key = pid
        if kind == "named":
            return self._named[key]
        if kind == "table":
            return self._tables[key]
        return self._storage(*key)

    def _storage(self, key: int, dtype: torch.dtype | None) -> Any:
        import torch

        if key not in self._storages:
            # A copy: the object store's memory is read-only and shared, and training writes.
            self._storages[key] = torch.from_numpy(self._bytes[key].copy()).untyped_storage()
        storage = self._storages[key]
        if dtype is None:
            return storage
        return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


def _restore(kind: type[Dataset], state: dict[str, Any]) -> Dataset:
    dataset = kind.__new__(kind)
    dataset.__setstate__(state)
    return dataset


def _to_ipc(table: pa.Table) -> Bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def _from_ipc(stream: Bytes) -> Table:
    from datasets.table import InMemoryTable

    return InMemoryTable(pa.ipc.open_stream(pa.py_buffer(stream)).read_all())

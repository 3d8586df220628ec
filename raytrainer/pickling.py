"""The pickle that carries a constructor call: tables and tensor storages beside it, driver's own objects by name."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import pyarrow as pa
from ray import cloudpickle

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from datasets.table import Table

Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]
PersistentId = tuple[str, Any]
Named = Callable[[object], str | None]


class Depot(Protocol):
    """Where a pickler leaves tables."""

    def put_table(self, table: Table) -> Any:
        """Take a table and return a reference to it."""

    def flattened(self, dataset: Dataset) -> Table:
        """Return the rows that a dataset selects of its table, as a table of their own."""


# Ray's cloudpickle, not another copy: a class that travels by value is then the same class when it comes back.
class Pickler(cloudpickle.Pickler):
    """Pickles in memory, and puts tables and tensor storages aside.

    Args:
        file: where to.
        depot: takes the tables.
        named: gives a name to an object that shall not travel.
    """

    def __init__(self, file: io.BytesIO, depot: Depot, named: Named) -> None:
        import torch
        import torch.nn.utils.parametrize
        from datasets import Dataset
        from datasets.table import Table

        super().__init__(file, protocol=5)  # type: ignore[no-untyped-call]  # cloudpickle carries no types
        self._torch, self._dataset, self._table = torch, Dataset, Table
        self.depot, self.named = depot, named
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
            self.tables.append(self.depot.put_table(obj))
            return "table", len(self.tables) - 1
        return None

    def reducer_override(self, obj: Any) -> Any:
        # A small selection of a large table: ship the rows selected, not the table and the selection.
        if isinstance(obj, self._dataset) and obj._indices is not None and len(obj._indices) < len(obj._data):
            state = {**obj.__dict__, "_data": self.depot.flattened(obj), "_indices": None}
            return _restore, (type(obj), state)
        if isinstance(obj, self._torch.nn.Module):
            if self._torch.nn.utils.parametrize.is_parametrized(obj):
                return _make, (type(obj).__mro__[1],), dict(vars(obj)), None, None, _set_parametrized
            if "_is_accelerate_prepared" in vars(obj):
                return _unprepared(obj)
        if isinstance(obj, self._torch.nn.Parameter) and obj._backward_hooks:
            raise pickle.PicklingError("torch pickles a parameter without the hooks on its gradient")
        return super().reducer_override(obj)  # type: ignore[no-untyped-call]  # as above

    def _keep(self, storage: torch.UntypedStorage) -> int:
        key = int(storage._cdata)
        if key not in self.storages:
            self._alive.append(storage)
            view = self._torch.empty(0, dtype=self._torch.uint8)
            self.storages[key] = view.set_(cast("Any", storage.cpu())).numpy()
        return key


class Unpickler(pickle.Unpickler):
    """Reads what :class:`Pickler` wrote.

    Args:
        file: where from.
        tables: Arrow IPC streams, in the order in which the depot took them.
        storages: tensor storages by key.
        named: what stands for each name.
    """

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


def _unprepared(module: torch.nn.Module) -> tuple[Any, ...]:
    """Reduce a model without the marks of an accelerator that prepared it on the driver.

    On the workers accelerate would take it for wrapped already, and every rank would train a copy of its own.
    """
    make, args, state, *rest = cast("tuple[Any, ...]", module.__reduce_ex__(5))
    assert isinstance(state, dict), "nn.Module's own state is a dict"
    state = {name: value for name, value in state.items() if name != "_is_accelerate_prepared"}
    if (original := state.pop("_original_forward", None)) is not None:
        del state["forward"]
        if getattr(original, "__func__", None) is not type(module).forward:
            state["forward"] = original
    return make, args, state, *rest


def _make(kind: type[torch.nn.Module]) -> torch.nn.Module:
    return kind.__new__(kind)


def _set_parametrized(module: torch.nn.Module, state: dict[str, Any]) -> None:
    """Fill a module that has parametrizations (weight_norm, ...): torch gives each such object a class of its own."""
    from torch.nn.utils import parametrize

    vars(module).update(state)
    parametrize._inject_new_class(module)
    for name in cast("Any", module.parametrizations):
        parametrize._inject_property(module, name)


def _restore(kind: type[Dataset], state: dict[str, Any]) -> Dataset:
    dataset: Dataset = object.__new__(kind)
    dataset.__setstate__(state)
    return dataset


def to_ipc(table: pa.Table) -> Bytes:
    """Write a table as one Arrow IPC stream; of a slice, its rows only."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def _from_ipc(stream: Bytes) -> Table:
    from datasets.table import InMemoryTable

    return InMemoryTable(pa.ipc.open_stream(pa.py_buffer(stream)).read_all())

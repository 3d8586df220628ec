"""A snapshot: what is saved is what was there, whatever training does before the disk has it."""

from __future__ import annotations

import io
import threading
import uuid
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

import raytrainer.snapshot
from raytrainer.snapshot import Snapshot
from tests.ray.recipes import tiny_bert

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.bool, torch.complex64),
]


def load(file: Path) -> Any:
    return torch.load(file, weights_only=False)


def same(one: Any, other: Any) -> bool:
    """Equal in value, type, and what is below."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        alike = (one.dtype, one.shape, one.stride(), one.requires_grad) == (
            *(other.dtype, other.shape, other.stride(), other.requires_grad),
        )
        return alike and vars(one).keys() == vars(other).keys() and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and bool(one.tolist() == other.tolist())
    if isinstance(one, dict):
        attributes = [dict(getattr(each, "__dict__", {})).items() for each in (one, other)]
        factories = getattr(one, "default_factory", None), getattr(other, "default_factory", None)
        pairs = zip(one.items(), other.items(), strict=False)
        return (
            len(one) == len(other)
            and factories[0] is factories[1]
            and same(*map(list, attributes))
            and all(same(key, key_) and same(item, item_) for (key, item), (key_, item_) in pairs)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def spoil(value: Any) -> None:
    """Change in place whatever can be changed, as training does."""
    if isinstance(value, torch.Tensor):
        with torch.no_grad():
            value.untyped_storage().fill_(0x11)  # type: ignore[attr-defined]  # torch has it
    elif isinstance(value, np.ndarray):
        value.fill(0)
    elif isinstance(value, dict):
        for item in value.values():
            spoil(item)
        vars(value).clear() if hasattr(value, "__dict__") else None
        value.clear()
    elif isinstance(value, list | tuple):
        for item in value:
            spoil(item)
        value.clear() if isinstance(value, list) else None
    elif isinstance(value, set):
        value.clear()


def saved_both_ways(folder: Path, value: Any) -> tuple[Path, Path]:
    """Save directly and through a snapshot, and change the value in between; return both files."""
    later = folder / "checkpoint-5"
    later.mkdir(parents=True)
    torch.save(value, folder / "direct.pt")
    snapshot = Snapshot(later)
    with snapshot.taking():
        torch.save(value, later / "state.pt")
    assert not (later / "state.pt").exists()
    spoil(value)
    snapshot.write()
    return folder / "direct.pt", later / "state.pt"


def with_attribute() -> OrderedDict[str, Any]:
    """As a module's state_dict is."""
    values = OrderedDict(weight=torch.arange(4.0), bias=torch.ones(1))
    vars(values)["_metadata"] = OrderedDict({"": {"version": 1}})
    return values


VALUES: dict[str, Callable[[], Any]] = {
    "tensor": lambda: torch.arange(6.0),
    "transposed": lambda: torch.arange(6.0).view(2, 3).t(),
    "part of a tensor": lambda: torch.arange(10)[3:7:2],
    "expanded": lambda: torch.arange(3.0).expand(4, 3),
    "scalar": lambda: torch.tensor(3),
    "empty": lambda: [torch.empty(0), torch.empty(0, 3, dtype=torch.int64), torch.empty(2, 0)],
    "that needs a gradient": lambda: torch.arange(3.0, requires_grad=True),
    "dtypes": lambda: [torch.arange(2).to(dtype) for dtype in DTYPES],
    "numpy": lambda: {"state": ("MT19937", np.arange(624, dtype=np.uint32), 5, 0, 0.0)},
    "numpy, not in order": lambda: np.arange(6).reshape(2, 3).T[::2],
    "containers": lambda: {"a": [1, (2.0, {3}, b"4", None)], 5: True, (6, 7): "8", "complex": 1j},
    "defaultdict": lambda: defaultdict(list, {"a": [torch.ones(2)]}),
    "counter": lambda: Counter(a=2, b=0, c=-1),
    "state_dict": with_attribute,
    "types of torch": lambda: [torch.float16, torch.Size([1, 2]), torch.device("cpu")],
    "nothing": lambda: {},
}


@pytest.mark.parametrize("name", sorted(VALUES))
def test_the_file_has_what_was_there_when_it_was_saved(name: str, tmp_path: Path) -> None:
    direct, later = saved_both_ways(tmp_path, VALUES[name]())
    assert same(load(direct), VALUES[name]())
    assert same(load(later), load(direct))


TENSORS = st.builds(
    lambda dtype, size, start: torch.arange(start, start + size).to(dtype),
    st.sampled_from(DTYPES),
    st.integers(0, 5),
    st.integers(0, 9),
)
ARRAYS = st.builds(lambda size, dtype: np.arange(size).astype(dtype), st.integers(0, 5), st.sampled_from("fdiI?"))
KEYS = st.integers(-3, 3) | st.text(max_size=3) | st.tuples(st.booleans(), st.text(max_size=2))
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.binary(max_size=5)
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    items = st.dictionaries(KEYS, inner, max_size=4)
    return (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | items
        | items.map(OrderedDict)
        | st.builds(defaultdict, st.sampled_from([None, list, int]), items)
    )


@given(st.recursive(PLAIN | TENSORS | ARRAYS | st.sets(st.integers(), max_size=3), nested, max_leaves=12))
def test_whatever_is_nested_comes_out_the_same(tmp_path: Path, value: Any) -> None:
    direct, later = saved_both_ways(tmp_path / uuid.uuid4().hex, value)
    assert same(load(later), load(direct))


def test_tensors_that_share_memory_share_it_in_the_file(tmp_path: Path) -> None:
    whole = torch.arange(100_000.0)
    direct, later = saved_both_ways(tmp_path, {"whole": whole, "part": whole[:10], "again": whole})
    assert abs(later.stat().st_size - direct.stat().st_size) < 1000
    loaded = load(later)
    assert {tensor.untyped_storage().data_ptr() for tensor in loaded.values()} == {loaded["whole"].data_ptr()}
    assert torch.equal(loaded["part"], torch.arange(10.0))


# What cannot be copied so that the file comes out the same is written at once


class Settings:
    def __init__(self) -> None:
        self.value = 1

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other)


class Mine(torch.Tensor):
    pass


class Table(dict[str, int]):
    pass


def noted() -> torch.Tensor:
    tensor = torch.ones(2)
    vars(tensor)["note"] = "kept by torch.save"
    return tensor


UNFIT: dict[str, Callable[[], Any]] = {
    "object": lambda: {"fits": torch.ones(2), "settings": Settings()},
    "object as a key": lambda: {frozenset({1}): 1},
    "object in numpy": lambda: np.array([[1], None], dtype=object),
    "parameter": lambda: torch.nn.Parameter(torch.ones(2)),
    "subclass of Tensor": lambda: torch.ones(2).as_subclass(Mine),
    "tensor with an attribute": noted,
    "conjugate": lambda: torch.ones(2, dtype=torch.complex64).conj(),
    "subclass of dict": lambda: Table(a=1),
    "numpy's scalar": lambda: [np.float64(1.5)],
}


@pytest.mark.parametrize("name", sorted(UNFIT))
def test_what_is_unfit_is_written_at_once(name: str, tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path)
    torch.save(UNFIT[name](), tmp_path.parent / "direct.pt")
    with snapshot.taking():
        torch.save(UNFIT[name](), tmp_path / "state.pt")
        assert same(load(tmp_path / "state.pt"), load(tmp_path.parent / "direct.pt"))
    (tmp_path / "state.pt").unlink()
    snapshot.write()
    assert not (tmp_path / "state.pt").exists()


def test_a_sparse_tensor_is_written_at_once(tmp_path: Path) -> None:
    with Snapshot(tmp_path).taking():
        torch.save(torch.eye(3).to_sparse(), tmp_path / "state.pt")
    assert torch.equal(load(tmp_path / "state.pt").to_dense(), torch.eye(3))


def test_what_cannot_be_saved_fails_at_once(tmp_path: Path) -> None:
    with Snapshot(tmp_path).taking(), pytest.raises(Exception, match=r"[Pp]ickle|local object"):
        torch.save({"function": lambda: None}, tmp_path / "state.pt")


def test_without_room_in_memory_all_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raytrainer.snapshot, "_SHARE", 0.0)
    with Snapshot(tmp_path).taking():
        torch.save([torch.ones(2)], tmp_path / "state.pt")
        safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
        assert same(load(tmp_path / "state.pt"), [torch.ones(2)])
        assert same(safetensors.torch.load_file(tmp_path / "model.safetensors"), {"a": torch.ones(2)})


# safetensors


def test_safetensors_files_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    tensors = {str(dtype): torch.arange(6).view(2, 3).to(dtype) for dtype in DTYPES}
    tensors |= {"empty": torch.empty(0, 4), "scalar": torch.tensor(1.5), "large": torch.randn(300, 300)}
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    safetensors.torch.save_file(tensors, tmp_path / "direct", metadata={"format": "pt"})
    snapshot = Snapshot(tmp_path / "later")
    with snapshot.taking():
        safetensors.torch.save_file(tensors, tmp_path / "later/file", metadata={"format": "pt"})
    for tensor in tensors.values():
        spoil(tensor)
    (tmp_path / "later").mkdir()
    snapshot.write()
    assert (tmp_path / "later/file").read_bytes() == (tmp_path / "direct").read_bytes()
    loaded = safetensors.torch.load_file(tmp_path / "later/file")
    assert same({name: loaded[name] for name in before}, before)


@given(
    st.dictionaries(st.text(max_size=5), TENSORS),
    st.none() | st.dictionaries(st.text(max_size=3), st.text(), max_size=1),
)
def test_any_safetensors_file_comes_out_the_same(
    tmp_path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None
) -> None:
    later = tmp_path / uuid.uuid4().hex
    later.mkdir()
    safetensors.torch.save_file(tensors, tmp_path / "direct", metadata)
    snapshot = Snapshot(later)
    with snapshot.taking():
        safetensors.torch.save_file(tensors, later / "file", metadata)
    assert not (later / "file").exists()
    spoil([tensors, metadata])
    snapshot.write()
    assert (later / "file").read_bytes() == (tmp_path / "direct").read_bytes()


# A model, an optimizer and a scheduler, as transformers saves them


def test_a_models_checkpoint_is_the_one_written_directly(tmp_path: Path) -> None:
    model = tiny_bert()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))

    def train() -> None:
        loss = model(input_ids=torch.tensor([[3, 4, 5]]), labels=torch.tensor([1])).loss
        loss.backward()
        optimizer.step()
        scheduler.step()

    def save(folder: Path) -> None:
        model.save_pretrained(folder)
        torch.save(optimizer.state_dict(), folder / "optimizer.pt")
        torch.save(scheduler.state_dict(), folder / "scheduler.pt")
        torch.save(model.state_dict(), folder / "pytorch_model.bin")

    train()
    save(tmp_path / "direct")
    snapshot = Snapshot(tmp_path / "later")
    with snapshot.taking():
        save(tmp_path / "later")
    assert {path.name for path in (tmp_path / "later").iterdir()} == {"config.json"}
    train()
    snapshot.write()
    names = {path.name for path in (tmp_path / "later").iterdir()}
    assert names == {path.name for path in (tmp_path / "direct").iterdir()}
    assert (tmp_path / "later/model.safetensors").read_bytes() == (tmp_path / "direct/model.safetensors").read_bytes()
    for name in ("optimizer.pt", "scheduler.pt", "pytorch_model.bin"):
        assert same(load(tmp_path / "later" / name), load(tmp_path / "direct" / name))


# Whom it concerns


def test_other_folders_files_and_ways_of_saving_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    (tmp_path / "checkpoint-50").mkdir()
    memory = io.BytesIO()
    snapshot = Snapshot(folder)
    with snapshot.taking():
        torch.save(1, tmp_path / "checkpoint-50/state.pt")
        torch.save(2, tmp_path / "state.pt")
        torch.save(3, memory)
        torch.save(4, folder / "protocol.pt", pickle_protocol=4)
        with open(folder / "opened.pt", "wb") as file:
            torch.save(5, file)
        safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
        (folder / "text.json").write_text("{}")
    files = ["checkpoint-50/state.pt", "state.pt", "checkpoint-5/protocol.pt", "checkpoint-5/opened.pt"]
    assert [load(tmp_path / file) for file in files] == [1, 2, 4, 5]
    memory.seek(0)
    assert torch.load(memory) == 3
    assert safetensors.torch.load_file(tmp_path / "other.safetensors").keys() == {"a"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    snapshot.write()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("path", [str, Path], ids=["text", "Path"])
def test_a_path_may_be_text_and_relative(
    path: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out/deep").mkdir(parents=True)
    snapshot = Snapshot(Path("out"))
    with snapshot.taking():
        torch.save(1, path("out/deep/state.pt"))
        torch.save(2, f=path(str(tmp_path / "out/other.pt")))
    assert list(Path("out").rglob("*.pt")) == []
    snapshot.write()
    assert (load(Path("out/deep/state.pt")), load(Path("out/other.pt"))) == (1, 2)


def test_other_threads_save_at_once(tmp_path: Path) -> None:
    def save() -> None:
        torch.save("from a thread", tmp_path / "state.pt")
        safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")

    with Snapshot(tmp_path).taking():
        thread = threading.Thread(target=save)
        thread.start()
        thread.join()
        assert load(tmp_path / "state.pt") == "from a thread"
        assert (tmp_path / "model.safetensors").exists()


def test_it_is_written_once_and_from_any_thread(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path)
    with snapshot.taking():
        torch.save("first", tmp_path / "state.pt")
        torch.save("second", tmp_path / "state.pt")
    thread = threading.Thread(target=snapshot.write)
    thread.start()
    thread.join()
    assert load(tmp_path / "state.pt") == "second"
    (tmp_path / "state.pt").unlink()
    snapshot.write()
    assert not (tmp_path / "state.pt").exists()


def test_afterwards_all_is_as_it_was() -> None:
    before = torch.save, getattr(safetensors.torch, "serialize_file")  # noqa: B009
    with Snapshot(Path("unused")).taking():
        assert torch.save is not before[0]
    assert (torch.save, getattr(safetensors.torch, "serialize_file")) == before  # noqa: B009
    with pytest.raises(ZeroDivisionError), Snapshot(Path("unused")).taking():
        raise ZeroDivisionError
    assert (torch.save, getattr(safetensors.torch, "serialize_file")) == before  # noqa: B009

"""Checkpoints: one contract for every kind of store, damage that is found, and which checkpoints stay."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import resource
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pyarrow import fs as filesystems
from transformers.trainer_utils import rotate_checkpoints

from raytrainer.checkpoints import Store, join
from raytrainer.keeping import Keep
from raytrainer.manifests import MANIFEST, File, Manifest, damage, describe, digest
from tests.ray.s3 import S3Server
from tests.unit.test_unpickling import Evil

FILES = {"model.safetensors": b"weights" * 999, "trainer_state.json": b"{}", "deep/er/empty": b"", "odd näme": b"\0"}


@dataclass(frozen=True)
class Kind:
    """A kind of store: how to make one in a folder, and whether its files are this machine's."""

    make: Callable[[Path], Store]
    local: bool
    address: Callable[[Path], str]


def in_memory(_: Path) -> Store:
    handler = filesystems.FSSpecHandler(fsspec.filesystem("memory"))
    return Store(f"bucket-{uuid.uuid4().hex}/run", filesystems.PyFileSystem(handler))


def below_a_folder(folder: Path) -> Store:
    return Store("run", filesystems.SubTreeFileSystem(str(folder), filesystems.LocalFileSystem()))


def as_fsspec(folder: Path) -> Store:
    handler = filesystems.FSSpecHandler(fsspec.filesystem("file"))
    return Store(str(folder / "run"), filesystems.PyFileSystem(handler))


KINDS = {
    "path": Kind(lambda folder: Store(str(folder / "run")), True, lambda folder: f"{folder}/run"),
    "odd path": Kind(lambda folder: Store(str(folder / "a b%20#?")), True, lambda folder: f"{folder}/a b%20#?"),
    "file URI": Kind(lambda folder: Store(f"file://{folder}/run"), True, lambda folder: f"{folder}/run"),
    "given file system": Kind(
        lambda folder: Store(str(folder / "run"), filesystems.LocalFileSystem()), True, lambda folder: f"{folder}/run"
    ),
    "subtree": Kind(below_a_folder, False, lambda _: "run"),
    "fsspec": Kind(as_fsspec, False, lambda folder: f"{folder}/run"),
    "memory": Kind(in_memory, False, lambda _: ""),
}
# Another process would see nothing of a file system in this one's memory.
LASTING = sorted(KINDS.keys() - {"memory"})


@pytest.fixture(params=sorted(KINDS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return KINDS[request.param].make(tmp_path)


def prepare(folder: Path, files: dict[str, bytes]) -> dict[str, File]:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return {name: describe(folder / name) for name in files}


def manifest(step: int, files: dict[str, File] | None = None, **values: Any) -> Manifest:
    return Manifest(**{"step": step, "run": "a", "time": 1e9 + step, "world_size": 2, "files": files or {}, **values})


def checkpoint(store: Store, step: int, here: Path, files: dict[str, bytes] = FILES, **values: Any) -> Manifest:
    """Bring a checkpoint into the store as a worker does."""
    described = prepare(here / f"prepared-{step}", files)
    for name in files:
        store.put(here / f"prepared-{step}" / name, step, name)
    sealed = manifest(step, described, **values)
    store.seal(sealed)
    return sealed


def content(store: Store, sealed: Manifest, here: Path) -> dict[str, bytes]:
    folder = store.fetch(sealed, here / f"fetched-{uuid.uuid4().hex}")
    return {name: (folder / name).read_bytes() for name in sealed.files}


# The contract


def test_what_is_put_and_sealed_is_there(store: Store, tmp_path: Path) -> None:
    assert (store.steps(), store.manifests()) == ([], [])
    sealed = checkpoint(store, 5, tmp_path, metrics={"eval_loss": 0.5}, meaning={"model": {"class": "Bert"}})
    assert store.steps() == [5]
    assert store.manifests() == [sealed]
    assert store.manifest(5) == sealed
    assert content(store, sealed, tmp_path) == FILES
    assert damage(sealed, store.fetch(sealed, tmp_path / "fetched")) is None


def test_a_folder_without_a_manifest_does_not_exist(store: Store, tmp_path: Path) -> None:
    prepare(tmp_path / "prepared", FILES)
    for name in FILES:
        store.put(tmp_path / "prepared" / name, 5, name)
    assert store.steps() == [5]
    assert store.manifest(5) is None
    assert store.manifests() == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"17",
        b'"text"',
        b"{}",
        b'{"format": 1}',
        b'{"format": 1, "step": 5, "run": "a", "time": 1, "world_size": 1, "files": {"x": {"size": 1}}}',
        b'{"format": 1, "step": 5, "run": "a", "time": 1, "world_size": 1, "files": {"x": 1}}',
        b'{"format": 1, "step": 5, "run": "a", "time": 1, "world_size": 1, "files": []}',
        b'{"format": 1, "step": 5, "run": "a", "time": 1, "world_size": 1, "files": {}, "unknown": 1}',
        b'{"format": 1, "step": 5, "run": "a", "time": 1, "world_size": 1, "files": {}, "metrics": {"eval_f1": "x"}}',
        b'{"format": 2, "step": 5, "run": "a", "time": 1, "world_size": 1, "files": {}}',
        b'{"format": 1, "step": 6, "run": "a", "time": 1, "world_size": 1, "files": {}}',
    ],
)
@pytest.mark.parametrize("kind", ["path", "memory"])
def test_a_manifest_that_cannot_be_read_does_not_exist(kind: str, text: bytes, tmp_path: Path) -> None:
    store = KINDS[kind].make(tmp_path)
    good = checkpoint(store, 4, tmp_path)
    store.write(f"checkpoint-5/{MANIFEST}", text)
    assert store.manifest(5) is None
    assert store.manifests() == [good]


def test_what_is_no_checkpoint_is_no_step(store: Store, tmp_path: Path) -> None:
    checkpoint(store, 10, tmp_path)
    for name in (
        "run.json",
        "checkpoint-7",
        "checkpoint-x/a",
        "checkpoint-/a",
        "my-checkpoint-8/a",
        "checkpoint-9.b/a",
    ):
        store.write(name, b"{}")
    assert store.steps() == [10]


def test_manifests_come_by_the_time_of_writing(store: Store, tmp_path: Path) -> None:
    for step, time in ((10, 3.0), (9, 1.0), (100, 2.0), (2, 2.0)):
        checkpoint(store, step, tmp_path, time=time)
    assert store.steps() == [2, 9, 10, 100]
    assert [m.step for m in store.manifests()] == [9, 2, 100, 10]


def test_a_step_that_is_sealed_again_replaces_the_first(store: Store, tmp_path: Path) -> None:
    checkpoint(store, 5, tmp_path, run="first")
    second = checkpoint(store, 5, tmp_path, {"model.safetensors": b"other"}, run="second")
    assert store.manifests() == [second]
    assert content(store, second, tmp_path) == {"model.safetensors": b"other"}


def test_a_removed_checkpoint_is_gone_and_others_are_not(store: Store, tmp_path: Path) -> None:
    checkpoint(store, 5, tmp_path)
    kept = checkpoint(store, 6, tmp_path)
    store.remove(5)
    store.remove(5)
    assert (store.steps(), store.manifests()) == ([6], [kept])
    assert content(store, kept, tmp_path) == FILES


def test_an_unsealed_checkpoint_can_be_removed(store: Store, tmp_path: Path) -> None:
    prepare(tmp_path, {"a": b"a"})
    store.put(tmp_path / "a", 5, "a")
    store.remove(5)
    assert store.steps() == []


def test_a_small_file_is_read_as_it_was_written_last(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.read("run.json")
    store.write("run.json", b"a long first version")
    store.write("run.json", b"second")
    assert store.read("run.json") == b"second"


def test_a_file_that_is_missing_cannot_be_fetched(store: Store, tmp_path: Path) -> None:
    sealed = checkpoint(store, 5, tmp_path)
    more = replace(sealed, files={**sealed.files, "lost": File(1, "0" * 64)})
    if store.local:
        assert damage(more, store.fetch(more, tmp_path / "fetched")) == "lost is missing"
    else:
        with pytest.raises(FileNotFoundError):
            store.fetch(more, tmp_path / "fetched")


def test_fetching_again_mends_a_copy_that_broke_off(store: Store, tmp_path: Path) -> None:
    sealed = checkpoint(store, 5, tmp_path)
    if not store.local:
        prepare(tmp_path / "fetched", {"model.safetensors": b"half and of another length" * 999})
    assert damage(sealed, store.fetch(sealed, tmp_path / "fetched")) is None


def test_putting_the_same_file_twice_does_no_harm(store: Store, tmp_path: Path) -> None:
    """A network that breaks after the work is done makes a worker do it again."""
    files = prepare(tmp_path / "prepared", {"model.safetensors": b"weights"})
    for _ in range(2):
        store.put(tmp_path / "prepared" / "model.safetensors", 5, "model.safetensors")
    sealed = manifest(5, files)
    for _ in range(2):
        store.seal(sealed)
    assert store.manifests() == [sealed]
    assert content(store, sealed, tmp_path) == {"model.safetensors": b"weights"}


def test_a_source_that_was_never_there_is_an_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put(tmp_path / "nowhere", 5, "model.safetensors")
    assert store.manifests() == []


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_where_a_checkpoint_is(kind: str, tmp_path: Path) -> None:
    store = KINDS[kind].make(tmp_path)
    assert store.local is KINDS[kind].local
    base = KINDS[kind].address(tmp_path) or store.path
    assert store.address(5) == f"{base}/checkpoint-5"


@pytest.mark.parametrize("kind", LASTING)
def test_a_store_travels_between_processes(kind: str, tmp_path: Path) -> None:
    store = KINDS[kind].make(tmp_path)
    sealed = checkpoint(store, 5, tmp_path)
    travelled = pickle.loads(pickle.dumps(store))
    assert (travelled.path, travelled.local) == (store.path, store.local)
    assert travelled.manifests() == [sealed]
    assert content(travelled, sealed, tmp_path) == FILES


# Local stores


def test_on_one_file_system_a_file_is_moved_and_not_copied(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    prepare(tmp_path, {"prepared": b"weights"})
    inode = (tmp_path / "prepared").stat().st_ino
    store.put(tmp_path / "prepared", 5, "model.safetensors")
    assert (tmp_path / "run/checkpoint-5/model.safetensors").stat().st_ino == inode
    assert not (tmp_path / "prepared").exists()


def test_from_another_file_system_a_file_is_copied(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has one file system")
    source = memory / uuid.uuid4().hex
    source.write_bytes(b"weights")
    try:
        Store(str(tmp_path)).put(source, 5, "model.safetensors")
    finally:
        source.unlink(missing_ok=True)
    assert (tmp_path / "checkpoint-5/model.safetensors").read_bytes() == b"weights"


def test_a_file_that_is_where_it_belongs_stays(tmp_path: Path) -> None:
    """output_dir is the store: transformers wrote the files where they belong."""
    store = Store(str(tmp_path))
    files = prepare(tmp_path / "checkpoint-5", FILES)
    for name in FILES:
        store.put(tmp_path / "checkpoint-5" / name, 5, name)
    store.seal(manifest(5, files))
    assert content(store, manifest(5, files), tmp_path) == FILES
    assert store.fetch(manifest(5, files), tmp_path / "unused") == tmp_path / "checkpoint-5"
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("kind", ["path", "subtree", "fsspec"])
def test_a_write_leaves_nothing_but_the_file(kind: str, tmp_path: Path) -> None:
    store = KINDS[kind].make(tmp_path)
    store.write("deep/run.json", b"{}")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["run.json"]


def test_a_write_that_fails_leaves_the_earlier_file_alone(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("run.json", b"first")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            store.write("run.json", b"second" * 99)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.read("run.json") == b"first"
    assert os.listdir(tmp_path) == ["run.json"]


# Names


@pytest.mark.parametrize(
    ("path", "names", "joined"),
    [
        ("/runs/a", ("checkpoint-5",), "/runs/a/checkpoint-5"),
        ("/runs/why?", ("b", "c"), "/runs/why?/b/c"),
        ("s3://b/p", ("c",), "s3://b/p/c"),
        ("s3://b/p/", ("c",), "s3://b/p/c"),
        ("s3://b/p?endpoint_override=x", ("c",), "s3://b/p/c?endpoint_override=x"),
        ("s3://b/p?scheme=http&endpoint_override=h:9", ("c", "d"), "s3://b/p/c/d?scheme=http&endpoint_override=h:9"),
    ],
)
def test_names_go_before_the_query(path: str, names: tuple[str, ...], joined: str) -> None:
    assert join(path, *names) == joined


def test_the_address_of_a_remote_checkpoint_keeps_its_query() -> None:
    store = Store("s3://b/p?endpoint_override=x&region=r")
    assert store.address(7) == "s3://b/p/checkpoint-7?endpoint_override=x&region=r"
    assert pickle.loads(pickle.dumps(store)).address(7) == store.address(7)


# The manifest


FINITE = st.floats(allow_nan=False)
# Those that lead out of the folder are refused.
NAMES = st.text().filter(lambda name: not name.startswith("/") and ".." not in name.split("/"))
MANIFESTS = st.builds(
    Manifest,
    step=st.integers(0, 10**9),
    run=st.text(),
    time=FINITE,
    world_size=st.integers(1, 10**6),
    files=st.dictionaries(NAMES, st.builds(File, size=st.integers(0, 2**50), sha256=st.text("0123456789abcdef"))),
    metrics=st.dictionaries(st.text(), FINITE),
    meaning=st.dictionaries(st.text(), st.dictionaries(st.text(), st.integers() | st.text() | st.none())),
)


@given(MANIFESTS)
def test_a_manifest_is_read_as_it_was_written(written: Manifest) -> None:
    assert Manifest.from_json(written.to_json()) == written


def test_a_metric_that_is_no_number_is_read_again() -> None:
    metrics = {"eval_loss": math.nan, "eval_f1": math.inf}
    read = Manifest.from_json(manifest(5, metrics=metrics).to_json()).metrics
    assert math.isnan(read["eval_loss"])
    assert read["eval_f1"] == math.inf


@given(st.data())
def test_a_flipped_byte_in_a_manifest_is_no_crash(data: st.DataObject) -> None:
    text = manifest(5, {"a": File(10, "0" * 64)}, metrics={"eval_loss": 0.5}).to_json().encode()
    position, flips = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(1, 255))
    broken = bytearray(text)
    broken[position] ^= flips
    try:
        read = Manifest.from_json(bytes(broken))
    except ValueError:
        return
    Keep(1, 1, "eval_loss").superseded([read, manifest(6)])


# Damage


CONTENTS = st.dictionaries(st.sampled_from(sorted(FILES)), st.binary(max_size=40), min_size=1)


@given(CONTENTS)
def test_nothing_is_wrong_with_files_as_they_were(tmp_path: Path, files: dict[str, bytes]) -> None:
    folder = tmp_path / uuid.uuid4().hex
    described = prepare(folder, files)
    prepare(folder, {"unknown": b"to the manifest"})
    assert damage(manifest(5, described), folder) is None


@given(CONTENTS, st.sampled_from(["flip", "truncate", "append", "missing"]), st.data())
def test_whatever_is_wrong_is_found_and_named(
    tmp_path: Path, files: dict[str, bytes], harm: str, data: st.DataObject
) -> None:
    folder = tmp_path / uuid.uuid4().hex
    described = prepare(folder, files)
    name = data.draw(st.sampled_from(sorted(files)))
    before, path = files[name], folder / name
    if harm == "flip":
        assume(before)
        position, flips = data.draw(st.integers(0, len(before) - 1)), data.draw(st.integers(1, 255))
        path.write_bytes(before[:position] + bytes([before[position] ^ flips]) + before[position + 1 :])
        expected = f"{name} has the right size and another content (sha256)"
    elif harm == "truncate":
        assume(before)
        left = data.draw(st.integers(0, len(before) - 1))
        path.write_bytes(before[:left])
        expected = f"{name} has {left} bytes instead of {len(before)}"
    elif harm == "append":
        more = data.draw(st.binary(min_size=1, max_size=3))
        path.write_bytes(before + more)
        expected = f"{name} has {len(before) + len(more)} bytes instead of {len(before)}"
    else:
        path.unlink()
        expected = f"{name} is missing"
    assert damage(manifest(5, described), folder) == expected


def test_of_two_wrong_files_the_first_is_named(tmp_path: Path) -> None:
    described = prepare(tmp_path, FILES)
    os.truncate(tmp_path / "trainer_state.json", 1)
    os.truncate(tmp_path / "model.safetensors", 1)
    backwards = {name: described[name] for name in sorted(described, reverse=True)}
    assert damage(manifest(5, backwards), tmp_path) == "model.safetensors has 1 bytes instead of 6993"


def test_a_file_that_cannot_be_read_is_damage(tmp_path: Path) -> None:
    described = prepare(tmp_path, {"a": b"", "b/c": b""})
    (tmp_path / "b/c").unlink()
    (tmp_path / "b").rmdir()
    (tmp_path / "b").write_bytes(b"stands in the folder's place")
    assert damage(manifest(5, described), tmp_path).startswith("b/c cannot be read: [Errno 20]")


def test_what_has_a_files_name_and_is_none_is_damage(tmp_path: Path) -> None:
    described = prepare(tmp_path, {"a": b""})
    (tmp_path / "a").unlink()
    (tmp_path / "a").mkdir()
    assert damage(manifest(5, described), tmp_path) == "a is no file"


def test_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    content = os.urandom(9 * 2**20 + 1)
    (tmp_path / "large").write_bytes(content)
    assert digest(tmp_path / "large") == hashlib.sha256(content).hexdigest()


# Which stay


def evaluated(*losses: float | None) -> list[Manifest]:
    """Checkpoints at steps 1, 2, ... with these metrics."""
    metrics = ({} if loss is None else {"eval_loss": loss} for loss in losses)
    return [manifest(step, metrics=each) for step, each in enumerate(metrics, 1)]


@pytest.mark.parametrize(
    ("losses", "greater", "ranked"),
    [
        ((), False, []),
        ((0.3, 0.1, 0.2), False, [2, 3, 1]),
        ((0.3, 0.1, 0.2), True, [1, 3, 2]),
        ((0.1, 0.2, 0.1), False, [1, 3, 2]),
        ((0.2, 0.1, 0.2), True, [1, 3, 2]),
        ((math.nan, 0.2, None, 0.1), False, [4, 2]),
        ((math.nan, 0.2, None, 0.1), True, [2, 4]),
        ((None, math.nan), False, []),
    ],
)
def test_the_best_come_first_and_of_equals_the_older(
    losses: tuple[float | None, ...], greater: bool, ranked: list[int]
) -> None:
    rule = Keep(metric="eval_loss", greater_is_better=greater)
    assert [m.step for m in rule.ranked(evaluated(*losses))] == ranked


def test_without_a_metric_none_is_best() -> None:
    assert Keep().ranked(evaluated(0.1, 0.2)) == []


@pytest.mark.parametrize(
    ("limit", "best", "losses", "gone"),
    [
        (None, 0, (0.1, 0.2, 0.3), []),
        (None, 1, (0.1, 0.2, 0.3), []),
        (3, 0, (0.1, 0.2, 0.3), []),
        (2, 0, (0.1, 0.2, 0.3), [1]),
        (1, 0, (0.1, 0.2, 0.3), [1, 2]),
        (2, 1, (0.1, 0.2, 0.3), [2]),
        (2, 1, (0.3, 0.2, 0.1), [1]),
        (1, 1, (0.1, 0.2, 0.3), [2]),
        (1, 1, (0.3, 0.2, 0.1), [1, 2]),
        (3, 2, (0.1, 0.4, 0.2, 0.3), [2]),
        (3, 2, (0.1, 0.4, 0.2, 0.3, 0.5), [2, 4]),
        (2, 3, (0.1, 0.2, 0.4, 0.3, 0.5), [3]),
        (2, 1, (math.nan, math.nan, math.nan), [1]),
        (2, 1, (None, 0.1, None, None), [1, 3]),
        (1, 1, (0.1, 0.1, 0.1), [2]),
    ],
)
def test_what_goes(limit: int | None, best: int, losses: tuple[float | None, ...], gone: list[int]) -> None:
    rule = Keep(limit, best, "eval_loss")
    assert [m.step for m in rule.superseded(evaluated(*losses))] == gone


def test_a_pinned_one_neither_goes_nor_counts() -> None:
    oldest, second, newest = evaluated(0.3, 0.1, 0.2)
    manifests = [oldest, replace(second, pinned=True), newest]
    assert Keep(2).superseded(manifests) == []
    assert Keep(1, 1, "eval_loss").superseded(manifests) == [oldest]
    assert Keep(1).superseded([manifests[1]]) == []


METRICS = st.none() | st.just(math.nan) | st.integers(0, 4).map(float)


@given(st.integers(1, 6), st.integers(0, 4), st.booleans(), st.lists(METRICS, max_size=12))
def test_the_newest_and_the_best_always_stay(limit: int, best: int, greater: bool, losses: list[float | None]) -> None:
    rule, manifests = Keep(limit, best, "eval_loss", greater), evaluated(*losses)
    kept = [m for m in manifests if m not in rule.superseded(manifests)]
    assert kept[-1:] == manifests[-1:]
    assert {m.step for m in rule.ranked(manifests)[:best]} <= {m.step for m in kept}
    assert len(kept) <= max(limit, best + 1)
    assert len(kept) >= min(limit, len(manifests))
    assert rule.superseded(kept) == []


@given(st.integers(0, 5), st.booleans(), st.booleans(), st.lists(METRICS, min_size=1, max_size=10))
def test_after_each_save_the_same_stay_as_with_transformers(
    tmp_path: Path, limit: int, has_metric: bool, greater: bool, losses: list[float | None]
) -> None:
    folder = tmp_path / uuid.uuid4().hex
    store, best, best_loss = Store(str(folder)), None, -math.inf if greater else math.inf
    rule = Keep(limit or None, int(has_metric), "eval_loss" if has_metric else None, greater)
    ours: list[Manifest] = []
    for saved in evaluated(*losses):
        (folder / f"checkpoint-{saved.step}").mkdir(parents=True)
        loss = saved.metrics.get("eval_loss", math.nan)
        # As Trainer._determine_best_metric does.
        if has_metric and (loss > best_loss if greater else loss < best_loss):
            best, best_loss = store.address(saved.step), loss
        rotate_checkpoints(str(folder), save_total_limit=limit, best_model_checkpoint=best, use_mtime=True)
        ours.append(saved)
        for gone in rule.superseded(ours):
            ours.remove(gone)
        assert [m.step for m in ours] == store.steps()


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", ".."])
def test_a_manifest_that_leads_out_of_its_folder_is_none(name: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    store.seal(Manifest(3, "a", 1.0, 1, {name: File(0, digest(Path(os.devnull)))}))
    assert store.steps() == [3] and store.manifest(3) is None
    store.seal(Manifest(3, "a", 1.0, 1, {"a..b/c": File(0, "")}))
    assert store.manifest(3) is not None


def test_a_manifest_is_never_unpickled(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-3").mkdir()
    (tmp_path / "checkpoint-3" / MANIFEST).write_bytes(pickle.dumps(Evil(tmp_path / "mark")))
    assert Store(str(tmp_path)).manifest(3) is None
    assert not (tmp_path / "mark").exists()


def test_a_file_whose_name_leads_out_of_its_folder_is_not_fetched(tmp_path: Path) -> None:
    """An object store's names are text: nothing keeps them from having dots in them."""
    with S3Server() as server:
        address = server.bucket("fetched")
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server.port}", region_name="us-east-1")
        for name in ("runs/model/good", "runs/model/../../../evil"):
            client.put_object(Bucket="fetched", Key=name, Body=b"")
        with pytest.raises(ValueError, match=r"'\.\./\.\./\.\./evil' leads out of its folder"):
            Store(address).fetch_folder("model", tmp_path / "a" / "b" / "c")
    assert not (tmp_path / "evil").exists()

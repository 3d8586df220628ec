"""Whatever happens to a folder of checkpoints: a run goes on from the newest complete one, or is told there is none."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from raytrainer.checkpoints import Store
from raytrainer.errors import ArgumentsError
from raytrainer.manifests import MANIFEST, Manifest, damage, describe
from raytrainer.resuming import Recovery, Resumed, Resuming

FILES = {
    "model.safetensors": b"weights" * 9,
    "trainer_state.json": b"{}",
    "deep/optimizer.pt": b"moments",
    "empty": b"",
}
RUN = "this run"


class Told:
    """In place of an outbox: keeps what the user is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def resuming(store: Store) -> Resuming:
    """Return rank 0 of one, outside of a group of workers."""
    made = Resuming.__new__(Resuming)
    made._recovery, made._outbox, made.gather = Recovery(store, RUN), Told(), lambda item: [item]  # type: ignore[assignment]
    made._fetched, made._rank, made._first_here = Path(store.path) / ".fetched", 0, True
    return made


def write(folder: Path, step: int, run: str = RUN) -> Path:
    """Leave a complete checkpoint, as a worker does."""
    checkpoint = folder / f"checkpoint-{step}"
    for name, content in FILES.items():
        (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / name).write_bytes(content)
    files = {name: describe(checkpoint / name) for name in FILES}
    Store(str(folder)).seal(Manifest(step, run, 1e9 + step, 2, files, {"eval_loss": 0.5}))
    return checkpoint


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from([*FILES, MANIFEST])


def flip(checkpoint: Path, data: st.DataObject) -> bool:
    path = checkpoint / data.draw(NAMES)
    content = bytearray(path.read_bytes())
    if not content:
        return False
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    return True


def cut(checkpoint: Path, data: st.DataObject) -> bool:
    path = checkpoint / data.draw(NAMES)
    size = path.stat().st_size
    os.truncate(path, data.draw(st.integers(0, max(0, size - 1))))
    return size > 0


def lose(checkpoint: Path, data: st.DataObject) -> bool:
    (checkpoint / data.draw(NAMES)).unlink()
    return True


def put_something_else_there(checkpoint: Path, data: st.DataObject) -> bool:
    """A folder, a pipe, a link to nothing or to itself in a file's place."""
    path = checkpoint / data.draw(NAMES)
    path.unlink()
    kinds: dict[str, Callable[[], Any]] = {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path) if path.name != MANIFEST else path.mkdir(),
        "nothing": lambda: path.symlink_to("nowhere"),
        "itself": lambda: path.symlink_to(path.name),
    }
    kinds[data.draw(st.sampled_from(sorted(kinds)))]()
    return True


def put_a_file_in_the_place_of_it(checkpoint: Path, data: st.DataObject) -> bool:
    shutil.rmtree(checkpoint)
    checkpoint.write_bytes(b"")
    return True


def say_something_else(checkpoint: Path, data: st.DataObject) -> bool:
    """A manifest in which one entry is something else; the files are what they were."""
    path = checkpoint / MANIFEST
    values = json.loads(path.read_text())
    key = data.draw(st.sampled_from([*values, "more"]))
    # One that names no file is complete whatever is there, and nobody writes one.
    values[key] = data.draw(JSON.filter(lambda value: (key, value) != ("files", {})))
    path.write_text(json.dumps(values))
    return True


def nest(checkpoint: Path, data: st.DataObject) -> bool:
    (checkpoint / MANIFEST).write_text("[" * 100_000)
    return True


HARMS = [flip, cut, lose, put_something_else_there, put_a_file_in_the_place_of_it, say_something_else, nest]
ODD = [
    "checkpoint-",
    "checkpoint-x",
    "checkpoint-7.part",
    "checkpoint-٣",
    "checkpoint-007",
    "checkpoint-" + "9" * 30,
]
ODD += ["checkpoint-5 ", ".fetched", "a\nb", "\udcff"]


def find(store: Store, asked: bool | None) -> tuple[Resumed | None, list[str]]:
    """Return where a run goes on, and what the user is told."""
    worker = resuming(store)
    try:
        return worker.find(asked), worker._outbox.warnings  # type: ignore[attr-defined]  # see resuming
    except ArgumentsError as error:
        assert asked and error.problems[0].setting == "resume_from_checkpoint"
        return None, worker._outbox.warnings  # type: ignore[attr-defined]  # see resuming


@given(data=st.data(), asked=st.sampled_from([None, True]))
@settings(max_examples=150, derandomize=True)
def test_what_is_chosen_is_complete(tmp_path: Path, data: st.DataObject, asked: bool | None) -> None:
    folder = tmp_path / uuid.uuid4().hex
    steps = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True))
    whole = set()
    for step in sorted(steps):
        checkpoint = write(folder, step)
        if data.draw(st.booleans()) or not data.draw(st.sampled_from(HARMS))(checkpoint, data):
            whole.add(step)
    for name in data.draw(st.lists(st.sampled_from(ODD), max_size=3, unique=True)):
        (folder / name).mkdir()
    resumed, _ = find(Store(str(folder)), asked)
    if resumed is None:
        assert not whole
        return
    assert resumed.manifest is not None
    assert damage(resumed.manifest, resumed.folder) is None
    assert {name: (resumed.folder / name).read_bytes() for name in resumed.manifest.files} == FILES
    # A manifest that says something else of time or run may put another one first; nothing else does.
    if resumed.manifest.step in whole and resumed.manifest.time == 1e9 + resumed.manifest.step:
        told = {manifest.step for manifest in Store(str(folder)).manifests() if manifest.time != 1e9 + manifest.step}
        assert told or resumed.manifest.step == max(whole)


@given(harms=st.lists(st.sampled_from(HARMS), min_size=2, max_size=2), data=st.data())
@settings(max_examples=50, derandomize=True)
def test_where_every_one_is_damaged_none_is_chosen(
    tmp_path: Path, harms: list[Callable[[Path, st.DataObject], bool]], data: st.DataObject
) -> None:
    folder = tmp_path / uuid.uuid4().hex
    for step, harm in enumerate(harms, 1):
        (write(folder, step) / "model.safetensors").unlink()
        if harm in (put_a_file_in_the_place_of_it, say_something_else, nest):
            harm(folder / f"checkpoint-{step}", data)
    for asked in (None, True):
        assert find(Store(str(folder)), asked)[0] is None


def test_a_folder_that_nothing_happened_to_is_gone_on_from(tmp_path: Path) -> None:
    for step in (3, 12, 6):
        write(tmp_path, step)
    resumed, told = find(Store(str(tmp_path)), None)
    assert resumed is not None and resumed.manifest is not None
    assert (resumed.manifest.step, told) == (12, [])
    (tmp_path / "checkpoint-12" / "empty").write_bytes(b"x")
    resumed, told = find(Store(str(tmp_path)), None)
    assert resumed is not None and resumed.manifest is not None
    assert resumed.manifest.step == 6
    assert "checkpoint-12 is damaged and passed over: empty has 1 bytes instead of 0" in told[0]

"""Whatever dies: a run ends with weights and history of an undisturbed one, or with its last good checkpoint."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raytrainer.checkpoints import Store
from raytrainer.errors import ArgumentsError, TrainingFailed
from raytrainer.events import Event, Note
from raytrainer.manifests import damage
from raytrainer.run import fit
from raytrainer.staying import KEEP_VARIABLE
from tests.ray.faults import (
    DEADLINE_S,
    Diary,
    FillsTheDisk,
    Holds,
    Kills,
    KillsOnSave,
    Point,
    Stuck,
    Trained,
    actor_pids,
    faulty_trainer,
    meanwhile,
    processes_with,
)
from tests.ray.s3 import S3Server
from tests.ray.test_run import actors_alive
from tests.waiting import until

pytestmark = pytest.mark.ray


REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("point", "again"),
    [
        (Point(7, 1, "substep", sealed=6), [7, 8]),
        (Point(9, 0, "save"), [7, 8, 9]),
        pytest.param(Point(9, 0, "on_save"), [7, 8, 9], marks=pytest.mark.slow),
        pytest.param(Point(3, 0, "save"), [1, 2, 3], marks=pytest.mark.slow),
    ],
    ids=["step", "save", "on_save", "first save"],
)
def test_a_killed_worker(
    point: Point, again: list[int], tmp_path: Path, undisturbed: Trained, ray_cluster: None
) -> None:
    kills = (KillsOnSave if point.phase == "on_save" else Kills)(tmp_path, point)
    diary = Diary(tmp_path)
    trainer = faulty_trainer(tmp_path / "out", [kills, diary], failures=1)
    trainer.train()
    assert kills.has_killed()
    assert sorted(diary.steps()) == sorted([*range(1, 15), *again])
    Trained.of(trainer).assert_equal(undisturbed)


@pytest.mark.parametrize(
    ("file", "present"),
    [
        ("manifest.json.part", ["model.safetensors", "optimizer.pt", "rng_state_1.pth", "raytrainer_state_1.pt"]),
        pytest.param("optimizer.pt", ["model.safetensors"], marks=pytest.mark.slow),
    ],
    ids=["before the manifest", "half written"],
)
def test_a_worker_killed_while_its_checkpoint_is_written_in_the_background(
    file: str, present: list[str], tmp_path: Path, undisturbed: Trained, ray_cluster: None
) -> None:
    stuck, diary = Stuck(tmp_path, 6, file, present), Diary(tmp_path)
    trainer = faulty_trainer(tmp_path / "out", [stuck, diary], failures=1)
    trainer.train()
    assert stuck.has_killed()
    assert diary.steps() == [*range(1, 7), *range(4, 15)]
    Trained.of(trainer).assert_equal(undisturbed)


@pytest.mark.slow
def test_all_workers_killed_at_once(tmp_path: Path, undisturbed: Trained, ray_cluster: None) -> None:
    holds, diary = Holds(tmp_path, 7), Diary(tmp_path)
    trainer = faulty_trainer(tmp_path / "out", [diary, holds], failures=1)

    def kill() -> None:
        holds.wait()
        until((tmp_path / "out" / "checkpoint-6" / "manifest.json").exists)
        for pid in [diary.pid(0), diary.pid(1)]:
            os.kill(pid, signal.SIGKILL)
        holds.release()

    with meanwhile(kill):
        trainer.train()
    assert diary.steps() == [*range(1, 9), *range(7, 15)]
    Trained.of(trainer).assert_equal(undisturbed)


@pytest.mark.slow
def test_a_killed_controller(tmp_path: Path, undisturbed: Trained, ray_cluster: None) -> None:
    before = actors_alive()
    holds, diary = Holds(tmp_path, 7), Diary(tmp_path)
    trainer = faulty_trainer(tmp_path / "out", [diary, holds])

    def kill() -> None:
        holds.wait()
        until((tmp_path / "out" / "checkpoint-6" / "manifest.json").exists)
        (controller,) = actor_pids("Controller")
        os.kill(controller, signal.SIGKILL)
        holds.release()

    with meanwhile(kill):
        trainer.train()
    Trained.of(trainer).assert_equal(undisturbed)
    assert not actor_pids("Controller")
    until(lambda: actors_alive() <= before, "actors to go")
    until(lambda: not [g for g in ray.util.placement_group_table().values() if g["state"] == "CREATED"])
    until(lambda: ray.available_resources().get("CPU") == 4, "the slots to be free again")


@pytest.mark.slow
def test_a_killed_relay_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None) -> None:
    """However often the workers may be started anew, nobody would hear them."""
    monkeypatch.setenv(KEEP_VARIABLE, "0")
    holds = Holds(tmp_path, 7)
    trainer = faulty_trainer(tmp_path / "out", [holds], failures=-1)

    def kill() -> None:
        holds.wait()
        (relay,) = actor_pids("Relay")
        os.kill(relay, signal.SIGKILL)
        holds.release()

    with meanwhile(kill), pytest.raises(TrainingFailed, match=r"meet in is gone: .*died"):
        trainer.train()
    until(lambda: ray.available_resources().get("CPU") == 4, "the slots to be free again")


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path)
    yield program
    program.end()


class Program:
    """``faulty_program`` in a process of its own, with a Ray of its own that ends with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex
        self.ray = tempfile.mkdtemp()  # sockets have short paths
        self.output = ""

    def start(self, what: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.ray.faulty_program", str(self.folder), what],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "FAULTY_PROGRAM": self.mark, "RAY_TMPDIR": self.ray},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, what: str) -> Trained:
        with self.start(what) as process:
            self.output = process.communicate(timeout=300)[0]
        assert process.returncode == 0, self.output
        trained: Trained = pickle.loads((self.folder / "trained.pickle").read_bytes())
        return trained

    def is_gone(self) -> bool:
        return not processes_with("FAULTY_PROGRAM", self.mark)

    def end(self) -> None:
        for process in processes_with("FAULTY_PROGRAM", self.mark):
            process.kill()
        shutil.rmtree(self.ray, ignore_errors=True)


@pytest.mark.slow
def test_a_killed_driver(program: Program, tmp_path: Path, undisturbed: Trained) -> None:
    holds, diary = Holds(tmp_path, 7), Diary(tmp_path)
    with program.start("start") as process:
        holds.wait()
        until((tmp_path / "out" / "checkpoint-6" / "manifest.json").exists)
        process.kill()
    until(program.is_gone, "the program's processes to go")
    holds.release()
    program.run("resume").assert_equal(undisturbed)
    assert diary.steps() == [*range(1, 9), *range(7, 15)]
    until(program.is_gone, "the program's processes to go")


@pytest.mark.slow
def test_a_node_that_dies(program: Program, tmp_path: Path, undisturbed: Trained) -> None:
    program.run("remove").assert_equal(undisturbed)
    assert Diary(tmp_path).steps() == [*range(1, 9), *range(7, 15)]


def test_a_node_that_goes_away_after_a_notice(program: Program, tmp_path: Path, undisturbed: Trained) -> None:
    began = time.monotonic()
    program.run("drain").assert_equal(undisturbed)
    assert Diary(tmp_path).steps() == list(range(1, 15)), "no step is lost"
    assert time.monotonic() - began < DEADLINE_S / 2, "the run waited for the node's end"
    (resumed,) = [line for line in program.output.splitlines() if line.startswith("resumed at step")]
    step = int(resumed.split()[3])
    assert Store(str(tmp_path / "out")).steps() == sorted({3, 6, 9, 12, 14, step}), "one save more"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mount is not permitted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(
    "arguments", [{}, pytest.param({"output_dir": "elsewhere"}, marks=pytest.mark.slow)], ids=["staging", "storage"]
)
def test_a_full_disk(arguments: dict[str, str], small_disk: Path, tmp_path: Path, ray_cluster: None) -> None:
    if arguments:
        trainer = faulty_trainer(tmp_path / "out", [FillsTheDisk(7, 6, small_disk)], storage=str(small_disk))
        store = Store(str(small_disk / "run" / "checkpoints"))
    else:
        trainer = faulty_trainer(small_disk, [FillsTheDisk(7, 6, small_disk)])
        store = Store(str(small_disk))
    with pytest.raises(TrainingFailed, match="No space left") as caught:
        trainer.train()
    assert store.address(6) in str(caught.value)
    assert [manifest.step for manifest in store.manifests()] == [3, 6]
    assert [damage(manifest, Path(store.address(manifest.step))) for manifest in store.manifests()] == [None, None]


def test_damaged_checkpoints_are_passed_over(
    tmp_path: Path,
    undisturbed_folder: Path,
    undisturbed: Trained,
    ray_cluster: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(undisturbed_folder, folder)
    (folder / "checkpoint-14" / "manifest.json").unlink()
    optimizer = folder / "checkpoint-12" / "optimizer.pt"
    os.truncate(optimizer, optimizer.stat().st_size - 1)
    model = folder / "checkpoint-9" / "model.safetensors"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    (folder / "checkpoint-6" / "rng_state_1.pth").unlink()
    diary = Diary(tmp_path)
    trainer = faulty_trainer(folder, [diary])
    trainer.train(resume_from_checkpoint=True)
    assert diary.steps() == list(range(4, 15))
    Trained.of(trainer).assert_equal(undisturbed)
    output = "".join(capsys.readouterr()).splitlines()
    for step, what in ((14, "manifest"), (12, "optimizer.pt has"), (9, "sha256"), (6, "rng_state_1.pth is missing")):
        (line,) = [line for line in output if f"checkpoint-{step} " in line and "passed over" in line]
        assert what in line
    manifests = Store(str(folder)).manifests()
    assert [damage(manifest, folder / f"checkpoint-{manifest.step}") for manifest in manifests] == [None] * 5


@pytest.mark.slow
def test_a_run_that_begins_anew_is_the_newest_whatever_the_clock_says(
    tmp_path: Path, undisturbed_folder: Path, undisturbed: Trained, ray_cluster: None
) -> None:
    """The one before was written when the clock was a day ahead."""
    folder = tmp_path / "out"
    shutil.copytree(undisturbed_folder, folder)
    store = Store(str(folder))
    for manifest in store.manifests():
        store.seal(replace(manifest, time=manifest.time + 86400))
    faulty_trainer(folder, [], arguments={"max_steps": 4}).train()
    assert store.manifests()[-1].step == 4


def test_nothing_good_to_resume_is_an_error(
    tmp_path: Path, undisturbed_folder: Path, undisturbed: Trained, ray_cluster: None
) -> None:
    shutil.copytree(undisturbed_folder / "checkpoint-3", tmp_path / "checkpoint-3")
    (tmp_path / "checkpoint-3" / "optimizer.pt").unlink()
    with pytest.raises(ArgumentsError, match=r"every checkpoint .* is damaged"):
        faulty_trainer(tmp_path, []).train(resume_from_checkpoint=True)


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


class Outages:
    """Driver: a sink that ends the outage of a storage when it hears that the storage failed."""

    def __init__(self) -> None:
        self.failed, self.works_again = 0, 0

    def handle(self, event: Event) -> None:
        if isinstance(event, Note):
            self.failed += "the storage fails, and is tried again" in event.text
            self.works_again += "the storage works again" in event.text

    def close(self, error: BaseException | None) -> None:
        pass


@pytest.mark.slow
def test_workers_killed_while_they_upload(
    s3: S3Server, tmp_path: Path, undisturbed: Trained, ray_cluster: None
) -> None:
    """Nor does it matter that the storage fails when half a checkpoint is cleared away."""
    storage, diary, outages = s3.bucket("killed"), Diary(tmp_path), Outages()
    victims = {"checkpoint-6/optimizer.pt": 0, "checkpoint-9/rng_state_1.pth": 1, "checkpoint-12/manifest.json": 0}
    lock = threading.Lock()

    def kill(method: str, path: str) -> int | None:
        with lock:
            names = [name for name in victims if path.endswith(name) and method in ("PUT", "POST")]
            for name in names:
                os.kill(diary.pid(victims.pop(name)), signal.SIGKILL)
        deletes = method == "POST" and path.strip("/") == "killed"
        return 500 if deletes and not outages.failed else None

    s3.before = kill
    trainer = faulty_trainer(tmp_path / "out", [diary], failures=3, storage=storage)
    trainer._take_home(fit(replace(trainer._job("train", (), {}), sinks=[outages])))
    assert not victims
    assert outages.works_again == 1
    Trained.of(trainer).assert_equal(undisturbed)
    store = Store(storage.replace("/runs", "/runs/run/checkpoints"))
    assert [manifest.step for manifest in store.manifests()] == store.steps() == [3, 6, 9, 12, 14]
    for manifest in store.manifests():
        assert damage(manifest, store.fetch(manifest, tmp_path / f"fetched-{manifest.step}")) is None


@pytest.mark.slow
def test_a_storage_that_fails_for_a_while(
    s3: S3Server, tmp_path: Path, undisturbed: Trained, ray_cluster: None
) -> None:
    """Each outage lasts until the S3 client's own retries are used up; the first one until the next save waits."""
    storage, diary, outages = s3.bucket("outages"), Diary(tmp_path), Outages()
    gone = threading.Event()

    def fail(method: str, path: str) -> int | None:
        if "checkpoint-6/" in path and not outages.failed:
            return 500
        if "checkpoint-12/" in path and outages.failed < 2:
            gone.set()
            return 503
        return None

    def come_back() -> None:
        until(gone.is_set, "the second outage")
        s3.stop()
        until(lambda: outages.failed >= 2, "the training to notice")
        s3.start()

    s3.before = fail
    trainer = faulty_trainer(tmp_path / "out", [diary], storage=storage)
    with meanwhile(come_back):
        trainer._take_home(fit(replace(trainer._job("train", (), {}), sinks=[outages])))
    assert outages.works_again == outages.failed == 2
    assert diary.steps() == list(range(1, 15))
    Trained.of(trainer).assert_equal(undisturbed)
    store = Store(storage.replace("/runs", "/runs/run/checkpoints"))
    assert [manifest.step for manifest in store.manifests()] == [3, 6, 9, 12, 14]


points = st.builds(
    Point,
    step=st.integers(1, 13),
    rank=st.integers(0, 1),
    phase=st.sampled_from(["step begin", "substep", "save", "on_save", "evaluate"]),
)


def dies_and_goes_on(folder: Path, point: Point, undisturbed: Trained) -> None:
    kills = (KillsOnSave if point.phase == "on_save" else Kills)(folder, point)
    trainer = faulty_trainer(folder / "out", [kills], failures=1)
    trainer.train()
    assert kills.has_killed()
    Trained.of(trainer).assert_equal(undisturbed)


few = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), max_examples=3)


@pytest.mark.slow
@given(point=points)
@few
def test_killed_anywhere(
    point: Point, tmp_path_factory: pytest.TempPathFactory, undisturbed: Trained, ray_cluster: None
) -> None:
    dies_and_goes_on(tmp_path_factory.mktemp("killed"), point, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@given(point=points)
@settings(few, max_examples=30)
def test_killed_anywhere_many_times(
    point: Point, tmp_path_factory: pytest.TempPathFactory, undisturbed: Trained, ray_cluster: None
) -> None:
    dies_and_goes_on(tmp_path_factory.mktemp("killed"), point, undisturbed)

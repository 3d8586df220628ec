"""Whatever dies, a run ends with the weights and the history of an undisturbed one, or with its last good checkpoint."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import ray

from tests.ray.faults import (
    Diary,
    Holds,
    Kills,
    KillsOnSave,
    Point,
    Stuck,
    Trained,
    controller_pids,
    faulty_trainer,
    meanwhile,
    until,
)
from tests.ray.test_run import actors_alive

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def undisturbed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(scope="module")
def undisturbed(undisturbed_folder: Path, ray_cluster: None) -> Trained:
    trainer = faulty_trainer(undisturbed_folder, [])
    trainer.train()
    return Trained.of(trainer)


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
    diary = Diary(tmp_path / "diary")
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
    stuck, diary = Stuck(tmp_path, 6, file, present), Diary(tmp_path / "diary")
    trainer = faulty_trainer(tmp_path / "out", [stuck, diary], failures=1)
    trainer.train()
    assert stuck.has_killed()
    assert diary.steps() == [*range(1, 7), *range(4, 15)]
    Trained.of(trainer).assert_equal(undisturbed)


def test_all_workers_killed_at_once(tmp_path: Path, undisturbed: Trained, ray_cluster: None) -> None:
    holds, diary = Holds(tmp_path, 7), Diary(tmp_path / "diary")
    trainer = faulty_trainer(tmp_path / "out", [diary, holds], failures=1)

    def kill() -> None:
        pids = holds.pids()
        until((tmp_path / "out" / "checkpoint-6" / "manifest.json").exists)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        holds.release()

    with meanwhile(kill):
        trainer.train()
    assert diary.steps() == [*range(1, 9), *range(7, 15)]
    Trained.of(trainer).assert_equal(undisturbed)


def test_a_killed_controller(tmp_path: Path, undisturbed: Trained, ray_cluster: None) -> None:
    actors = len(actors_alive())
    holds, diary = Holds(tmp_path, 7), Diary(tmp_path / "diary")
    trainer = faulty_trainer(tmp_path / "out", [diary, holds])
    pids: list[int] = []

    def kill() -> None:
        pids.extend(holds.pids())
        until((tmp_path / "out" / "checkpoint-6" / "manifest.json").exists)
        (controller,) = controller_pids()
        os.kill(controller, signal.SIGKILL)
        holds.release()

    with meanwhile(kill):
        trainer.train()
    Trained.of(trainer).assert_equal(undisturbed)
    assert not controller_pids()
    until(lambda: len(actors_alive()) == actors, "actors to go")
    until(lambda: not [g for g in ray.util.placement_group_table().values() if g["state"] == "CREATED"])
    until(lambda: ray.available_resources().get("CPU") == 4, "the slots to be free again")

"""What goes wrong in the tests of fault tolerance: callbacks that kill, block and fill disks, and what they look at."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]  # made by protobuf
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.execution.context import get_train_context
from transformers import TrainerCallback

from raytrainer import RayTrainer, RayTrainingArguments
from tests.ray.recipes import COMMON, classify_words, without_times
from tests.waiting import until

# Of a node that goes away: long after the end of a run that does not wait for it.
DEADLINE_S = 300

# Four steps an epoch; saves at 3, 6, 9, 12 and 14, evaluations at 4, 8, 12 and 14: at step 12 an epoch ends, too.
ARGUMENTS: dict[str, Any] = {
    **COMMON,
    "max_steps": 14,
    "logging_steps": 2,
    "save_strategy": "steps",
    "save_steps": 3,
    "gradient_accumulation_steps": 2,
}


def placement_groups() -> list[str]:
    """Return the groups that hold something."""
    table = ray._private.state.state._connect_and_get_accessor().get_placement_group_table()
    groups = map(PlacementGroupTableData.FromString, table)
    return [g.placement_group_id.hex() for g in groups if g.state != PlacementGroupTableData.REMOVED]


def nothing_is_held() -> bool:
    gc.collect()  # a trainer of Ray's that another test has left keeps its controller, and that its places
    free: dict[str, Any] = ray.available_resources()
    return not placement_groups() and free.get("CPU") == ray.cluster_resources()["CPU"]


@dataclass(frozen=True)
class Point:
    """Where a process is killed: the first time that this rank comes to this phase when so many steps are done.

    ``sealed`` is a checkpoint that has to be complete before.
    """

    step: int
    rank: int
    phase: str
    sealed: int | None = None


class Diary(TrainerCallback):
    """Worker: writes down every step that rank 0 begins, in all attempts, and which processes the ranks are."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "diary"

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        (self.folder / f"pid-{args.process_index}").write_text(str(os.getpid()))
        (self.folder / "node").write_text(ray.get_runtime_context().get_node_id())

    def pid(self, rank: int) -> int:
        return int((self.folder / f"pid-{rank}").read_text())

    def node(self) -> str:
        return (self.folder / "node").read_text()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.process_index == 0:
            with self.file.open("a") as file:
                print(state.global_step + 1, file=file)

    def steps(self) -> list[int]:
        return [int(line) for line in self.file.read_text().split()] if self.file.exists() else []


class Kills(TrainerCallback):
    """Worker: kills its own process, once at each point."""

    def __init__(self, folder: Path, *points: Point) -> None:
        self.folder, self.points = folder, points

    def strike(self, phase: str, args: Any, state: Any) -> None:
        for number, point in enumerate(self.points):
            marker = self.folder / f"killed-{number}"
            here = (phase, args.process_index) == (point.phase, point.rank) and state.global_step >= point.step
            if here and not marker.exists():
                if point.sealed is not None:
                    until((Path(args.output_dir) / f"checkpoint-{point.sealed}" / "manifest.json").exists, "the seal")
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    def has_killed(self) -> bool:
        return all((self.folder / f"killed-{number}").exists() for number in range(len(self.points)))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.strike("step begin", args, state)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.strike("substep", args, state)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.strike("evaluate", args, state)


class KillsOnSave(Kills):
    """The same with an ``on_save``, for whose sake every file is written while training waits."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.strike("on_save", args, state)


class Stuck(Kills):
    """Worker: the checkpoint of a step stays half written, as a pipe takes the place of a file; then rank 0 is killed.

    Args:
        folder: for markers.
        step: which checkpoint.
        file: opening it for writing blocks.
        present: files that are there when the process is killed.
    """

    def __init__(self, folder: Path, step: int, file: str, present: list[str]) -> None:
        super().__init__(folder, Point(step, 0, "step begin"))
        self.step, self.file, self.present = step, file, present

    def block(self, args: Any, state: Any, checkpoint: Path) -> None:
        if args.process_index == 0 and state.global_step == self.step and not self.has_killed():
            os.mkfifo(checkpoint / self.file)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        checkpoint = Path(args.output_dir) / f"checkpoint-{self.step}"
        if args.process_index == 0 and state.global_step == self.step and not self.has_killed():
            until(lambda: all((checkpoint / name).is_file() for name in self.present), "the files")
            assert not (checkpoint / "manifest.json").exists()
        super().on_step_begin(args, state, control)


class FaultyTrainer(RayTrainer):
    """Gives :class:`Kills` and :class:`Stuck` a place inside of a save."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, Stuck):
                callback.block(self.args, self.state, Path(output_dir))
        super()._save_optimizer_and_scheduler(output_dir)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, Kills):
                callback.strike("save", self.args, self.state)


class Holds(TrainerCallback):
    """Worker: every rank waits before it goes on from a step, once, until somebody lets it.

    Args:
        folder: for markers.
        step: how many steps are done.
        notice: whether to wait, too, until Ray Train's notice that a node goes away is here.
    """

    def __init__(self, folder: Path, step: int, notice: bool = False) -> None:
        self.folder, self.step, self.notice = folder, step, notice

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step and not self._released.exists():
            (self.folder / f"held-{args.process_index}").touch()
            until(self._released.exists, "the release")
            if self.notice:
                context = get_train_context().preemption_context
                until(lambda: context.preemption_info is not None, "the notice")

    @property
    def _released(self) -> Path:
        return self.folder / "released"

    def release(self) -> None:
        self._released.touch()

    def wait(self) -> None:
        """Return when both ranks wait."""
        files = [self.folder / f"held-{rank}" for rank in range(2)]
        until(lambda: all(file.exists() for file in files), "the workers to be held")


class FillsTheDisk(TrainerCallback):
    """Worker, rank 0: leaves no byte free on a disk when it begins a step and has a checkpoint there."""

    def __init__(self, step: int, sealed: int, disk: Path) -> None:
        self.step, self.sealed, self.disk = step, sealed, disk

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.process_index == 0 and state.global_step == self.step:
            until(lambda: bool(list(self.disk.rglob(f"checkpoint-{self.sealed}/manifest.json"))), "the seal")
            with contextlib.suppress(OSError), open(self.disk / "ballast", "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))


@contextlib.contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Do something in another thread while the block runs; raise what it raised."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        if failures:
            raise failures[0]


@dataclass(frozen=True)
class Trained:
    """What a training left: it is equal in another one that did the same to the last bit."""

    weights: dict[str, np.ndarray[Any, Any]]
    history: list[dict[str, Any]]

    @classmethod
    def of(cls, trainer: Any) -> Trained:
        weights = {name: tensor.numpy().copy() for name, tensor in trainer.model.state_dict().items()}
        return cls(weights, [without_times(entry) for entry in trainer.state.log_history])

    def assert_equal(self, other: Trained) -> None:
        assert self.history == other.history
        assert self.weights.keys() == other.weights.keys()
        for name, weights in self.weights.items():
            assert np.array_equal(weights, other.weights[name]), name


def faulty_trainer(
    folder: Path,
    callbacks: list[TrainerCallback],
    failures: int = 0,
    storage: str | None = None,
    arguments: dict[str, Any] | None = None,
) -> Any:
    """Build the training that all tests have in common."""
    run = {"storage_path": storage, "name": "run"} if storage else {}
    return FaultyTrainer(
        args=RayTrainingArguments(folder, **{**ARGUMENTS, **(arguments or {})}),
        callbacks=callbacks,
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=failures), **run),
        **classify_words(),
    )


def actor_pids(kind: str) -> list[int]:
    """Return the processes of the actors whose class has this in its name: ``Controller``, ``Relay``."""
    actors = ray._private.state.actors().values()
    return [actor["Pid"] for actor in actors if actor["State"] == "ALIVE" and kind in actor["ActorClassName"]]


def processes_with(name: str, value: str) -> list[psutil.Process]:
    """Return the processes that were started with a variable in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found

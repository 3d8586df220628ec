"""How a worker saves: transformers writes its checkpoint, and the storage gets it while training goes on."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist
import transformers.modeling_utils
import transformers.trainer
from transformers import Trainer, TrainerCallback

from raytrainer.continuation import Continuation
from raytrainer.errors import TrainingFailed
from raytrainer.events import Saved
from raytrainer.manifests import MANIFEST, File, Manifest, describe
from raytrainer.outbox import Outbox
from raytrainer.patience import patiently
from raytrainer.resuming import Recovery, Resumed, Resuming
from raytrainer.snapshot import Memory, Snapshot, replaced
from raytrainer.wire import Wire

# Training that waits longer than this for the checkpoint before says so at once.
_SAY_AFTER_S = 1.0


@dataclass
class _Checkpoint:
    """One save on its way: where it is, what is still in memory, and how long training stood still for it.

    ``best`` is the step of the model that would be loaded if training ended with it, None where that is the last one.
    """

    step: int
    folder: Path
    snapshot: Snapshot | None
    metrics: dict[str, float]
    stalled: float
    best: int | None
    pinned: bool = False


class Saver:
    """Worker, every rank: takes the place of transformers' ``_save_checkpoint`` and loads the best model at the end.

    A save copies tensors to memory and returns. A thread then writes them to ``output_dir``, hands the files to the
    store, and tells rank 0 their digests; rank 0 writes the manifest when every rank has told, and deletes what the
    run no longer keeps. One checkpoint is on its way at a time: the next save waits for it.

    Args:
        trainer: the trainer that it belongs to.
        continuation: what it writes beside transformers' files.
        recovery: the run's.
        resuming: fetches the best model's checkpoint at the end.
        outbox: the way to the driver.
        wire: by which ranks tell rank 0 what they have handed over.
        attempt: name of this attempt, the same on all ranks and in no other attempt.
        meaning: what goes into manifests about the run.
    """

    def __init__(
        self,
        trainer: Trainer,
        continuation: Continuation,
        recovery: Recovery,
        resuming: Resuming,
        outbox: Outbox,
        wire: Wire,
        attempt: str,
        meaning: dict[str, Any],
    ) -> None:
        self._trainer, self._continuation, self._recovery, self._resuming = trainer, continuation, recovery, resuming
        self._outbox, self._wire, self._attempt, self._meaning = outbox, wire, attempt, meaning
        self._rank, self._world_size = trainer.args.process_index, trainer.args.world_size
        self._store = recovery.store
        self._manifests: list[Manifest] = []
        self._steps: set[int] = set()
        self._present = set(patiently(self._store.steps, outbox.warn)) if self._rank == 0 else set()
        self._memory = Memory()
        self._ready: _Checkpoint | None = None
        self._going: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="raytrainer-checkpoints")
        self._save_checkpoint = trainer._save_checkpoint
        self._load_best_model = trainer._load_best_model
        self._finalize_training: Callable[..., Any] = trainer._finalize_training
        trainer._save_checkpoint = self.save  # type: ignore[method-assign]  # put in the place of it
        trainer._load_best_model = self._load_best  # type: ignore[method-assign]  # put in the place of it
        trainer._finalize_training = self._finalize  # type: ignore[method-assign]  # put in the place of it
        if self._rank != 0:
            trainer._get_output_dir = self._own_output_dir  # type: ignore[method-assign]  # put in the place of it
            shutil.rmtree(self._own_folder, ignore_errors=True)

    def begin(self, resumed: Resumed | None) -> None:
        """Take over what the run has in the store; call it when transformers has reset its own state."""
        if resumed is not None:
            self._manifests = resumed.leading_here()
            self._steps = {manifest.step for manifest in self._manifests}
            self._point_to_best()
            best = self._trainer.state.best_global_step
            if self._trainer.args.load_best_model_at_end and best and best not in self._steps:
                folder = os.path.dirname(self._store.address(best))
                self._outbox.warn(f"the best checkpoint so far, of step {best}, is not in {folder}, and is not loaded")

    def save(self, model: Any, trial: Any) -> None:
        """Do what ``Trainer._save_checkpoint`` does, without waiting for disk or storage where that can be."""
        self.wait()
        began = time.monotonic()
        state = self._trainer.state
        folder = Path(self._trainer._get_output_dir(trial)) / f"checkpoint-{state.global_step}"
        self._steps.add(state.global_step)
        with self._told_when_the_disk_is_full(state.global_step, folder):
            if state.global_step in self._present:
                patiently(lambda: self._store.remove(state.global_step), self._outbox.warn)
            shutil.rmtree(folder, ignore_errors=True)
            snapshot = self._snapshot(folder)
            with snapshot.taking() if snapshot else contextlib.nullcontext(), _no_deletion(), _names_of_the_model():
                self._save_checkpoint(model, trial)
                self._continuation.save(folder)
            self._point_to_best()
            if self._rank == 0:
                # transformers points to the folder on this machine.
                state.save_to_json(str(folder / "trainer_state.json"))
        metrics = _metrics_at(state.global_step, state.log_history)
        best = state.best_global_step if self._trainer.args.load_best_model_at_end else None
        self._ready = _Checkpoint(state.global_step, folder, snapshot, metrics, time.monotonic() - began, best)

    def address(self, step: int) -> str:
        """Return where the checkpoint of a step is."""
        return self._store.address(step)

    def hand_over(self, pinned: bool = False) -> None:
        """Let the background have what was saved; on every rank, after the callbacks have added what they add.

        Args:
            pinned: whether it stays until somebody else deletes it.
        """
        ready, self._ready = self._ready, None
        if ready is None:
            return
        ready.pinned = pinned
        began = time.monotonic()
        _barrier()  # before a rank brings its files, rank 0 has removed an older checkpoint of this step
        ready.stalled += time.monotonic() - began
        self._going = self._thread.submit(self._deliver, ready)

    def check(self) -> None:
        """Raise what has gone wrong in the background."""
        if self._going is not None and self._going.done():
            going, self._going = self._going, None
            going.result()

    def wait(self) -> None:
        """Wait until the checkpoint on its way is in the store.

        Raises:
            TrainingFailed: it could not be stored.
        """
        self.hand_over()
        going, self._going = self._going, None
        if going is None:
            return
        began = time.monotonic()
        futures.wait([going], _SAY_AFTER_S)
        if not going.done():
            self._outbox.warn("training waits: the last checkpoint is still on its way to the storage")
        going.result()
        if (waited := time.monotonic() - began) > _SAY_AFTER_S:
            self._outbox.note(f"training waited {waited:.1f} s for the storage")

    def finish(self) -> None:
        """Wait on every rank until every rank's part is in the store."""
        self.wait()
        _barrier()
        if self._rank != 0:
            shutil.rmtree(self._own_folder, ignore_errors=True)

    def _own_output_dir(self, trial: Any) -> str:
        return str(self._own_folder)

    @property
    def _own_folder(self) -> Path:
        return Path(self._trainer.args.output_dir or "") / f".rank-{self._rank}"

    def _snapshot(self, folder: Path) -> Snapshot | None:
        """Return a snapshot to write later; None where somebody reads the files right after the save."""
        own = ("transformers.", "raytrainer.")
        callbacks = self._trainer.callback_handler.callbacks
        read = [c for c in callbacks if type(c).on_save is not TrainerCallback.on_save]
        if self._trainer.args.push_to_hub or any(not type(c).__module__.startswith(own) for c in read):
            return None
        return Snapshot(folder, self._memory)

    def _point_to_best(self) -> None:
        state = self._trainer.state
        best = state.best_global_step
        state.best_model_checkpoint = self._store.address(best) if best and best in self._steps else None

    def _deliver(self, checkpoint: _Checkpoint) -> None:
        """Background: bring one checkpoint, or this rank's part of it, into the store."""
        began, step, folder = time.monotonic(), checkpoint.step, checkpoint.folder
        with self._told_when_the_disk_is_full(step, folder):
            if checkpoint.snapshot is not None:
                checkpoint.snapshot.write()
            names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
            files = {name: describe(folder / name) for name in names if name != MANIFEST}
            for name in files:
                patiently(functools.partial(self._store.put, folder / name, step, name), self._outbox.warn)
        key = f"{self._attempt}/{step}"
        if self._rank != 0:
            shutil.rmtree(folder, ignore_errors=True)
            self._wire.hand_in(key, files)
            return
        for part in self._wire.handed_in(key, self._world_size - 1):
            files.update(part)
        self._seal(checkpoint, files)
        if not (self._store.local and Path(self._store.address(step)).resolve() == folder.resolve()):
            shutil.rmtree(folder, ignore_errors=True)
        size = sum(file.size for file in files.values())
        seconds = time.monotonic() - began
        node = ray.get_runtime_context().get_node_id()
        self._outbox.send(Saved(step, self._store.address(step), size, seconds, checkpoint.stalled, node))
        self._retire(checkpoint.best)

    def _seal(self, checkpoint: _Checkpoint, files: dict[str, File]) -> None:
        manifest = Manifest(
            step=checkpoint.step,
            run=self._recovery.run,
            # Newer than any before, whatever the clock of the machine that rank 0 is on now.
            time=max(time.time(), max([self._resuming.latest, *(m.time for m in self._manifests)]) + 1e-3),
            world_size=self._world_size,
            files=dict(sorted(files.items())),
            metrics=checkpoint.metrics,
            meaning=self._meaning,
            pinned=checkpoint.pinned,
        )
        patiently(lambda: self._store.seal(manifest), self._outbox.warn)
        self._manifests = [m for m in self._manifests if m.step != manifest.step] + [manifest]
        self._present.add(manifest.step)

    def _retire(self, best: int | None) -> None:
        for manifest in self._recovery.keep.superseded(self._manifests, best):
            self._manifests.remove(manifest)
            try:
                self._store.remove(manifest.step)
            except OSError as error:  # it costs room, not the training
                address = self._store.address(manifest.step)
                self._outbox.warn(f"{address} is no longer needed and could not be deleted: {error}")

    def _finalize(self, *args: Any, **kwargs: Any) -> Any:
        state = self._trainer.state
        if state.best_global_step and self._steps and self._trainer.args.load_best_model_at_end:
            # Without an address transformers loads none, and there may be others.
            state.best_model_checkpoint = self._store.address(state.best_global_step)
        with _no_deletion():
            return self._finalize_training(*args, **kwargs)

    def _load_best(self) -> None:
        """Load the best model from the store; where its checkpoint is damaged, the best of the others."""
        self.finish()
        state, keep = self._trainer.state, self._recovery.keep
        ranked: list[Manifest] = self._resuming.gather(keep.ranked(self._manifests))[0]
        ranked.sort(key=lambda manifest: manifest.step != state.best_global_step)
        if ranked and ranked[0].step != state.best_global_step:
            best, rest = state.best_global_step, ranked[0].step
            self._outbox.warn(f"the best checkpoint, of step {best}, is not in the storage; of those there {rest} is")
        for manifest in ranked:
            folder = self._resuming.fetch(self._store, manifest)
            if folder is not None:
                state.best_model_checkpoint = str(folder)
                self._load_best_model()
                state.best_model_checkpoint = self._store.address(manifest.step)
                if not self._store.local:
                    _barrier()
                    self._resuming.forget()
                return
        state.best_model_checkpoint = None
        self._outbox.warn("no checkpoint with a metric is good: the model is the last one, not the best")

    @contextlib.contextmanager
    def _told_when_the_disk_is_full(self, step: int, folder: Path) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # safetensors and torch's writer have exceptions of their own for a full disk.
            if not isinstance(error, OSError) and "no space left" not in str(error).lower():
                raise
            shutil.rmtree(folder, ignore_errors=True)
            good = "there is no earlier checkpoint"
            if self._manifests:
                good = f"the last good checkpoint is {self._store.address(self._manifests[-1].step)}"
            raise TrainingFailed(f"checkpoint-{step} could not be saved: {error}; {good}") from error


def _barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


@contextlib.contextmanager
def _no_deletion() -> Iterator[None]:
    """Keep transformers from deleting checkpoints: what the run keeps is decided when a new one is stored.

    It does after a save, and once more at the end: of those that it finds then, which are none here.
    """
    with (
        replaced(transformers.trainer, "rotate_checkpoints", lambda *args, **kwargs: None),
        replaced(transformers.trainer, "sort_checkpoints", lambda *args, **kwargs: []),
    ):
        yield


def _names_of_the_model() -> contextlib.AbstractContextManager[None]:
    """Keep weights under the names that they have in the model.

    transformers writes some by those that they have on the hub, reads them by the model's, and goes on with what it
    did not find as it was (transformers#43701).
    """
    return replaced(transformers.modeling_utils, "revert_weight_conversion", lambda model, weights: weights)


def _metrics_at(step: int, history: list[dict[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for entry in history:
        if entry.get("step") == step:
            found.update({name: value for name, value in entry.items() if name.startswith("eval_")})
    return found

"""Where a run goes on: the newest checkpoint that is good, on every machine that has workers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.train

from raytrainer.checkpoints import Store, parted
from raytrainer.errors import ArgumentsError, Problem
from raytrainer.keeping import Keep
from raytrainer.manifests import Manifest, damage
from raytrainer.outbox import Outbox
from raytrainer.patience import patiently
from raytrainer.wire import Wire

Gather = Callable[[Any], list[Any]]
"""Return every rank's item, by rank, on every rank."""


@dataclass(frozen=True)
class Recovery:
    """How a run keeps its checkpoints and finds them again.

    Args:
        store: where they are.
        run: name of this call of ``train``, the same in every attempt.
        keep: which of them stay.
        allow_changes: whether to resume a run with another model, other data or another sample order.
        preemptions: whether Ray Train watches for nodes that go away.
        paced: whether the training waits for a verdict after every evaluation, as a trial of a sweep does.
        adopt: whether the training arguments given count, and a checkpoint gives weights, moments and position only;
            without it, learning rate, weight decay and the like are the checkpoint's, as transformers restores them.
    """

    store: Store
    run: str
    keep: Keep = field(default_factory=Keep)
    allow_changes: bool = False
    preemptions: bool = False
    paced: bool = False
    adopt: bool = False


@dataclass(frozen=True)
class Resumed:
    """Where a run goes on.

    Args:
        folder: the checkpoint's files, on this machine.
        address: the checkpoint, for people.
        manifest: None for a checkpoint that bare transformers wrote.
        earlier: manifests of the checkpoints in the store that may be the run's, oldest first.
        seconds: what finding, fetching and verifying took.
    """

    folder: Path
    address: str
    manifest: Manifest | None
    earlier: list[Manifest]
    seconds: float

    def leading_here(self) -> list[Manifest]:
        """Return the manifests of the checkpoints on the way to this one, oldest first.

        A run that began anew in the folder of a longer one has left some of that one's behind its own.
        """
        found: list[Manifest] = []
        for manifest in reversed(self.earlier):
            not_later = self.manifest is not None and manifest.time <= self.manifest.time
            if not_later and (not found or manifest.step < found[-1].step):
                found.append(manifest)
        return found[::-1]


class Resuming:
    """Worker, every rank: finds the checkpoint to go on from, the same on all ranks.

    Args:
        recovery: the run's.
        output_dir: the trainer's, on this machine; what is fetched goes below it.
        outbox: the way to the driver.
        gather: exchanges items between ranks.

    Attributes:
        latest: when the newest checkpoint of any run in the store was written, as its manifest says.
    """

    latest = 0.0

    def __init__(self, recovery: Recovery, output_dir: str, outbox: Outbox, gather: Gather) -> None:
        self._recovery, self._outbox, self.gather = recovery, outbox, gather
        # Machines that share this folder fetch into folders of their own.
        self._fetched = Path(output_dir) / ".fetched" / ray.get_runtime_context().get_node_id()
        context = ray.train.get_context()
        self._rank, self._first_here = context.get_world_rank(), context.get_local_rank() == 0

    def find(self, asked: str | bool | None) -> Resumed | None:
        """Find where to go on.

        Args:
            asked: what ``train`` was called with; a run that has checkpoints of its own goes on from them.

        Returns:
            None to start anew.

        Raises:
            ArgumentsError: what was asked for is not there, or is damaged.
        """
        began = time.monotonic()
        store = self._recovery.store
        everything: list[Manifest] = self.gather(
            patiently(store.manifests, self._outbox.warn) if self._rank == 0 else []
        )[0]
        self.latest = max((manifest.time for manifest in everything), default=0.0)
        own = [manifest for manifest in everything if manifest.run == self._recovery.run]
        resumed = self._newest_good(own, [m for m in everything if m in own or asked], began)
        if own and resumed is None:
            self._outbox.warn("every checkpoint of this run is damaged: it begins as it began at first")
        if resumed is None and isinstance(asked, str):
            return self._named(asked, everything, began)
        if resumed is None and asked is True:
            resumed = self._newest_good([m for m in everything if m not in own], everything, began)
            if resumed is None:
                raise nothing_to_resume(store)
        if resumed is not None and resumed.manifest is not None:
            self._name_incomplete(everything, resumed.manifest.step)
        return resumed

    def _newest_good(self, candidates: list[Manifest], earlier: list[Manifest], began: float) -> Resumed | None:
        store = self._recovery.store
        for manifest in reversed(candidates):
            folder = self.fetch(store, manifest)
            if folder is not None:
                return Resumed(folder, store.address(manifest.step), manifest, earlier, time.monotonic() - began)
        return None

    def sees_store(self, wire: Wire) -> bool:
        """Tell whether every machine that has workers, or had them, sees what rank 0 writes into the store.

        Args:
            wire: knows what attempts before this one have saved.
        """
        if not self._recovery.store.local:
            return True
        several = len(set(self.gather(ray.get_runtime_context().get_node_id()))) > 1
        if several and not self._all_see_a_mark():
            return False
        seen: bool = self.gather(self._sees_what_was_saved(wire) if self._rank == 0 else None)[0]
        return seen

    def _all_see_a_mark(self) -> bool:
        store, mark = self._recovery.store, ".seen-by-all"
        if self._rank == 0:
            store.write(mark, self._recovery.run.encode())
        self.gather(None)
        try:
            seen = store.read(mark) == self._recovery.run.encode()
        except FileNotFoundError:
            seen = False
        everywhere = all(self.gather(seen))
        if self._rank == 0:
            os.remove(os.path.join(os.path.dirname(store.address(0)), mark))
        return everywhere

    def _sees_what_was_saved(self, wire: Wire) -> bool:
        store = self._recovery.store
        last = wire.saved().get(os.path.dirname(store.address(0)))
        if last is None or last.node == ray.get_runtime_context().get_node_id():
            return True
        # The newest one stays. One that is newer still may be here, which nobody was told of.
        return any(step >= last.step for step in patiently(store.steps, self._outbox.warn))

    def fetch(self, store: Store, manifest: Manifest) -> Path | None:
        """Bring a checkpoint to every machine and verify it; None where it is damaged, which the user is told."""
        target = self._fetched / f"checkpoint-{manifest.step}"
        wrong = None
        # A local store is read once; what is fetched is verified on each machine.
        if self._rank == 0 or (self._first_here and not store.local):
            try:
                wrong = damage(manifest, patiently(lambda: store.fetch(manifest, target), self._outbox.warn))
            except FileNotFoundError as error:
                wrong = f"a file is missing: {error}"
        reasons = [reason for reason in self.gather(wrong) if reason is not None]
        if not reasons:
            return store.fetch(manifest, target) if store.local else self._prepare(target)
        self.forget()
        self.gather(None)  # before one of them fetches another
        self._outbox.warn(f"{store.address(manifest.step)} is damaged and passed over: {reasons[0]}")
        return None

    def refuse_code(self, resumed: Resumed, deepspeed: bool) -> None:
        """Refuse a checkpoint with a file that would run something when it is read; on every rank, which raise alike.

        Args:
            resumed: where the run goes on.
            deepspeed: whether DeepSpeed reads a part of it.

        Raises:
            ArgumentsError: there is one, which has not been run.
        """
        from raytrainer.unpickling import code_in  # it imports transformers, and the driver imports this module

        found = self.gather(code_in(resumed.folder, deepspeed) if self._first_here else None)
        reasons = [reason for reason in found if reason is not None]
        if not reasons:
            return
        self.forget()
        fix = (
            "another checkpoint (delete this one, unless you know who wrote that file: neither transformers nor"
            " raytrainer writes any such), or resume_from_checkpoint=None to start anew"
        )
        raise ArgumentsError(Problem("resume_from_checkpoint", resumed.address, reasons[0], fix))

    def forget(self) -> None:
        """Delete what was fetched."""
        if self._first_here:
            shutil.rmtree(self._fetched, ignore_errors=True)
            with contextlib.suppress(OSError):  # another machine's are still there
                self._fetched.parent.rmdir()

    def _name_incomplete(self, manifests: list[Manifest], after: int) -> None:
        if self._rank != 0:
            return
        store, complete = self._recovery.store, {manifest.step for manifest in manifests}
        for step in patiently(store.steps, self._outbox.warn):
            if step > after and step not in complete:
                reason = "it has no manifest, so it is incomplete, or was not written by raytrainer"
                self._outbox.warn(f"{store.address(step)} is passed over: {reason}")

    def _prepare(self, folder: Path) -> Path:
        # transformers looks for the best checkpoint on this machine, and warns that it is gone.
        if self._first_here:
            file = folder / "trainer_state.json"
            state = json.loads(file.read_text())
            file.write_text(json.dumps({**state, "best_model_checkpoint": None}, indent=2) + "\n")
        self.gather(None)
        return folder

    def _named(self, asked: str, everything: list[Manifest], began: float) -> Resumed:
        parent, name = parted(asked)
        store = Store(parent)
        digits = name.removeprefix("checkpoint-")
        reads = digits.isdigit() and self._rank == 0
        manifest = self.gather(patiently(lambda: store.manifest(int(digits)), self._outbox.warn) if reads else None)[0]
        if manifest is None:
            self._outbox.warn(f"{asked} has no manifest, so it cannot be verified")
            return Resumed(Path(asked), asked, None, [], time.monotonic() - began)
        folder = self.fetch(store, manifest)
        if folder is None:
            raise ArgumentsError(
                Problem(
                    "resume_from_checkpoint",
                    asked,
                    "it is damaged",
                    "resume_from_checkpoint=True takes the newest one that is good",
                )
            )
        in_store = store.address(manifest.step) == self._recovery.store.address(manifest.step)
        earlier = [m for m in everything if in_store and m.time <= manifest.time]
        return Resumed(folder, asked, manifest, earlier, time.monotonic() - began)


def nothing_to_resume(store: Store) -> ArgumentsError:
    """Say that a store has no checkpoint, and what it has instead."""
    steps = store.steps()
    where = os.path.dirname(store.address(0))
    fix = "resume_from_checkpoint=None to start anew"
    if not steps:
        reason = f"there is no checkpoint-* folder in {where}"
        fix += ", or the folder of the earlier run"
    elif store.manifests():
        reason = f"every checkpoint in {where} is damaged"
    else:
        reason = (
            f"checkpoint-{steps[-1]} in {where} has no manifest: it is incomplete, or was not written by raytrainer"
        )
        fix = f"resume_from_checkpoint={store.address(steps[-1])!r} to take it unverified, None to start anew"
    return ArgumentsError(Problem("resume_from_checkpoint", True, reason, fix))

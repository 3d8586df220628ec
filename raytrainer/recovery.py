"""Ties a run's checkpoints to transformers' loop: when it is saved, resumed, and left."""

from __future__ import annotations

import contextlib
import inspect
import time
import uuid
from collections.abc import Callable
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from raytrainer.adoption import Adoption
from raytrainer.checkpoints import Store
from raytrainer.continuation import Continuation
from raytrainer.deepspeed import require_as_many_workers
from raytrainer.errors import Problem, ResourcesError
from raytrainer.meaning import compare, meaning_of
from raytrainer.outbox import Outbox
from raytrainer.pacing import Pacing
from raytrainer.resuming import Gather, Recovery, Resumed, Resuming
from raytrainer.saving import Saver
from raytrainer.stopping import Questions
from raytrainer.unpickling import deepspeed_reads_data_only, reads_data_only
from raytrainer.wire import Wire


class RecoveryCallback(TrainerCallback):
    """Worker, every rank: the last of a trainer's callbacks.

    Args:
        trainer: the trainer that it belongs to.
        continuation: puts back what transformers does not.
        saver: hands checkpoints over.
        questions: asks whether to stop.
        resumed: where the run goes on; None at its start.
        resuming: found it, and deletes what it fetched.
        outbox: the way to the driver.
        pacing: waits for verdicts, in a trial of a sweep.
        adoption: has the arguments given count; None where the checkpoint's do.
    """

    def __init__(
        self,
        trainer: Trainer,
        continuation: Continuation,
        saver: Saver,
        questions: Questions,
        resumed: Resumed | None,
        resuming: Resuming,
        outbox: Outbox,
        pacing: Pacing | None = None,
        adoption: Adoption | None = None,
    ) -> None:
        self._adoption = adoption
        self._trainer, self._continuation, self._saver, self._questions = trainer, continuation, saver, questions
        self._resumed, self._resuming, self._outbox = resumed, resuming, outbox
        self._pacing = pacing
        self._began = self._loaded = time.monotonic()
        self._entering = resumed is not None
        self._save_at_epoch_end = False
        self._leaving: Exception | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._continuation.begin()
        if self._adoption is not None:
            self._adoption.begin(state)
        # With auto_find_batch_size a training begins again where memory did not suffice.
        self._entering = self._resumed is not None
        self._saver.begin(self._resumed)
        self._questions.begin(state.global_step)
        if self._resumed is not None:
            self._continuation.load(self._resumed.folder)
        self._loaded = time.monotonic()

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._entering and self._resumed is not None:
            self._continuation.reenter_epoch(state, self._resumed.folder)
        else:
            self._continuation.begin_epoch()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self._entering or self._resumed is None:
            return
        self._entering = False
        now = time.monotonic()
        found, load, data = self._resumed.seconds, self._loaded - self._began, now - self._loaded
        self._outbox.note(
            f"resumed at step {state.global_step} from {self._resumed.address}: {found + load + data:.1f} s before the"
            f" first step (find and verify {found:.1f} s, load {load:.1f} s, data {data:.1f} s)"
        )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._resumed is not None and not args.auto_find_batch_size:
            # The first step's exchange of gradients is over, so no rank reads its files any more.
            self._resuming.forget()
            self._resumed = None
        self._saver.check()
        self._leaving = self._questions.ask(state.global_step)
        if state.global_step >= state.max_steps:
            self._leaving = None
        if self._leaving is not None:
            # Whatever the strategy: without optimizer and scheduler nothing could go on from it.
            args.save_only_model = False
            control.should_save = True
        if control.should_save and state.epoch is not None and float(state.epoch).is_integer():
            # A run that resumes after an epoch's last step begins the next epoch: what happens at the end of this one,
            # an evaluation for example, has to be in the checkpoint.
            control.should_save, self._save_at_epoch_end = False, True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._save_at_epoch_end:
            control.should_save, self._save_at_epoch_end = True, False

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._entering and self._resumed is not None:
            self._outbox.note(
                f"resumed at step {state.global_step} from {self._resumed.address}: no step is left to do"
            )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        asked_for = self._pacing is not None and self._pacing.saving
        self._saver.hand_over(pinned=asked_for)
        if self._leaving is not None:
            self._saver.finish()
            raise self._leaving
        if self._pacing is not None and asked_for:
            self._saver.finish()
            self._pacing.saved(self._saver.address(state.global_step))


def _not_shared(store: Store) -> Problem:
    return Problem(
        setting="the folder of checkpoints",
        value=store.path,
        reason="there are workers on several machines, or were, and not all of them see what is written there",
        fix="run_config=RunConfig(name=..., storage_path='s3://bucket/runs') (raytrainer run: --storage-path), or a"
        " folder that the machines share",
    )


def _keywords(call: inspect.BoundArguments) -> dict[str, Any]:
    """Return where ``resume_from_checkpoint`` goes in a call of a ``train`` that may be the user's own."""
    if "resume_from_checkpoint" in call.signature.parameters:
        return call.arguments
    rest = [p.name for p in call.signature.parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD]
    keywords: dict[str, Any] = call.arguments.setdefault(rest[0], {}) if rest else {}
    return keywords


def recoverable_train(
    train: Callable[..., Any],
    trainer: Trainer,
    recovery: Recovery,
    wire: Wire,
    outbox: Outbox,
    gather: Gather,
    args: Any,
    kwargs: Any,
) -> Any:
    """Call a trainer's ``train`` so that it goes on from the run's last checkpoint and leaves more of them.

    Args:
        train: the method to call, bound.
        trainer: built on this worker; every other rank does the same.
        recovery: the run's.
        wire: to the driver.
        outbox: the way to the driver.
        gather: exchanges items between ranks.
        args: positional arguments of ``train``.
        kwargs: keyword arguments of ``train``.

    Returns:
        What ``train`` returned.

    Raises:
        Stopped: the user asked to stop.
        Halted: the sweep needs no more of this trial.
        Left: a node goes away, or the number of workers changes.
        ArgumentsError: what shall be resumed is not there, damaged, another run, or has code in it.
        ResourcesError: checkpoints shall be saved, and not every machine sees the folder.
    """
    call = inspect.signature(train).bind(*args, **kwargs)
    given = _keywords(call)
    resuming = Resuming(recovery, trainer.args.output_dir or "", outbox, gather)
    if not resuming.sees_store(wire):
        if trainer.args.save_strategy != SaveStrategy.NO:
            raise ResourcesError(_not_shared(recovery.store))
        outbox.warn(f"{recovery.store.path} is not shared by all machines, so nothing is saved")
        return train(*call.args, **call.kwargs)
    resumed = resuming.find(given.get("resume_from_checkpoint"))
    if resumed is not None:
        resuming.refuse_code(resumed, trainer.is_deepspeed_enabled)
    reads_data_only(trainer)
    meaning = meaning_of(trainer)
    before: dict[str, Any] = {}
    another = resumed is not None
    if resumed is not None and resumed.manifest is not None:
        require_as_many_workers(trainer, resumed.manifest.world_size)
        before, another = resumed.manifest.meaning, resumed.manifest.run != recovery.run
        for change in compare(before, meaning, recovery.allow_changes, recovery.adopt):
            if another:
                (outbox.note if recovery.adopt else outbox.warn)(f"changed since {resumed.address}: {change}")
    adoption = Adoption(trainer, before, meaning, another, outbox) if resumed is not None and recovery.adopt else None
    attempt: str = gather(uuid.uuid4().hex)[0]
    continuation = Continuation(trainer)
    saver = Saver(trainer, continuation, recovery, resuming, outbox, wire, attempt, meaning)
    rank, world_size = trainer.args.process_index, trainer.args.world_size
    questions = Questions(wire, attempt, rank, world_size, recovery.preemptions)
    pacing = Pacing(trainer, wire, attempt) if recovery.paced else None
    callback = RecoveryCallback(trainer, continuation, saver, questions, resumed, resuming, outbox, pacing, adoption)
    trainer.add_callback(callback)
    given["resume_from_checkpoint"] = str(resumed.folder) if resumed is not None else None
    adopting = adoption.watching() if adoption is not None else contextlib.nullcontext()
    with continuation.watching(), adopting, deepspeed_reads_data_only(trainer):
        value = train(*call.args, **call.kwargs)
    saver.finish()
    resuming.forget()
    return value

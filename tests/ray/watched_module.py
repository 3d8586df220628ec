"""A trainer of the user's own, for sweeps: it notes what its optimizer and its weights were, in a file a training."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import uuid
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from tests.ray.recipes import classify_words
from tests.waiting import until


class Notes(TrainerCallback):
    """Worker: notes the learning rate at every step that the optimizer makes, and the weights at begin and saves."""

    def __init__(self, folder: Path, trial: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"{trial}-{uuid.uuid4().hex}.jsonl"

    def note(self, **facts: Any) -> None:
        with self._file.open("a") as file:
            print(json.dumps({**facts, "pid": os.getpid()}), file=file)

    def on_train_begin(
        self, args: TrainingArguments, state: Any, control: Any, model: Any = None, optimizer: Any = None, **kwargs: Any
    ) -> None:
        self.note(what="begin", step=state.global_step, weights=digest(model))
        step = state.global_step

        def seen(optimizer: Any, *rest: Any) -> None:
            nonlocal step
            step += 1
            group = optimizer.param_groups[0]
            self.note(what="step", step=step, rate=group["lr"], decay=group["weight_decay"])

        getattr(optimizer, "optimizer", optimizer).register_step_pre_hook(seen)

    def on_save(self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.note(what="save", step=state.global_step, weights=digest(model))


def digest(model: torch.nn.Module) -> str:
    """Name the weights by their bytes."""
    sha = hashlib.sha256()
    for _, tensor in sorted(model.state_dict().items()):
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def build(arguments: TrainingArguments, config: Any) -> Trainer:
    """Return a small classifier's trainer; the notes go where the config's data says."""
    set_seed(arguments.seed)
    parts = classify_words()
    folder = Path(config.data["notes"])
    assert arguments.output_dir is not None
    trial = Path(arguments.output_dir).name
    callbacks: list[TrainerCallback] = [Notes(folder, trial)]
    if trial == config.data.get("victim"):
        callbacks.append(Killer(folder, config.data["step"], config.data.get("rank", 0)))
    if "hold" in config.data:
        callbacks.append(Holder(folder, config.data["hold"]))
    return Trainer(args=arguments, callbacks=callbacks, **parts)


class Holder(TrainerCallback):
    """Worker: stands still in a step until somebody has done what the test is about."""

    def __init__(self, folder: Path, step: int) -> None:
        self._mark, self._step = folder / "gone", step

    def on_step_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            until(self._mark.exists, "the mark")


class Killer(TrainerCallback):
    """Worker: kills its process in a step, once, when the last save is complete: saves go on in the background.

    Before the first save it raises, every time.
    """

    def __init__(self, folder: Path, step: int, rank: int) -> None:
        self._mark, self._step, self._rank = folder / "killed", step, rank

    def on_step_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step and args.process_index == self._rank and not self._mark.exists():
            saved = int(self._step // args.save_steps * args.save_steps)
            if not saved:
                raise RuntimeError("ended by the test")
            until((Path(str(args.output_dir)) / f"checkpoints/checkpoint-{saved}/manifest.json").exists, "the save")
            self._mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

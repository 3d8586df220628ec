"""What a checkpoint of transformers lacks for a resumed run to go on as if it had never stopped."""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import torch
import transformers.trainer
from torch.utils.data import DataLoader, IterableDataset
from transformers import Trainer, TrainerState

from raytrainer.snapshot import replaced

_FILE = "raytrainer_state_{rank}.pt"


class Continuation:
    """Worker, every rank: collects that state for a checkpoint, and puts it back.

    It is: the loss summed since the last log and since the start, so that the next log and the final mean are those of
    an undisturbed run; the random state in which the epoch began, from which samplers draw the order that is skipped
    through; the one before the batch was made that waits for the next step, for collators that draw; seconds trained
    before; and what training changed in callbacks' plain attributes.

    Args:
        trainer: the trainer that it belongs to, before it trains.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._epoch_random: dict[str, Any] | None = None
        self._batch_random: dict[str, Any] | None = None
        self._before_batches: list[Callable[[], None]] = []
        self._generator: torch.Generator | None = None
        self._load_rng_state = trainer._load_rng_state
        self._began, self._clock, self._before = time.monotonic(), time.time(), 0.0
        self._attributes = self._callback_attributes()
        trainer._finalize_training = self._with_time_before(trainer._finalize_training)  # type: ignore[method-assign]  # put in the place of it

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Know the random state before each batch is made, while ``train`` runs inside the block."""
        trainer, skip = self._trainer, accelerate.skip_first_batches
        trainer.get_train_dataloader = _then(trainer.get_train_dataloader, self._watch)  # type: ignore[method-assign]  # put in the place of it
        trainer._run_epoch = self._no_step_beyond(trainer._run_epoch)  # type: ignore[method-assign]  # put in the place of it
        with replaced(transformers.trainer, "skip_first_batches", _then(skip, self._watch)):
            yield

    def _no_step_beyond(self, run_epoch: Callable[..., Any]) -> Callable[..., Any]:
        """Leave the steps out of an epoch that a training enters with all of its steps done.

        transformers looks at ``max_steps`` after a step, so one that resumes at its end would do another.
        """

        def run(**given: Any) -> Any:
            trainer = self._trainer
            if trainer.state.global_step >= trainer.state.max_steps:
                trainer.control.should_training_stop = True
                batches = 0 if trainer.args.ignore_data_skip else given["steps_trained_in_current_epoch"]
                given["num_update_steps_per_epoch"] = batches // trainer.args.gradient_accumulation_steps
            return run_epoch(**given)

        return run

    def begin(self) -> None:
        """Note when training begins."""
        self._began, self._clock = time.monotonic(), time.time()

    def begin_epoch(self) -> None:
        """Note the random state in which an epoch begins."""
        self._epoch_random = _random_state(self._generator)

    def save(self, folder: Path) -> None:
        """Write this rank's state into a checkpoint's folder."""
        trainer = self._trainer
        state = {
            "loss": trainer._tr_loss.detach().cpu(),
            "total_loss": trainer._total_loss_scalar,
            "last_logged": trainer._globalstep_last_logged,
            "initial_step": trainer._initial_global_step,
            "seconds": self._before + time.monotonic() - self._began,
            "epoch_random": self._epoch_random,
            "batch_random": self._batch_random,
            "generator": _random_state(self._generator)["generator"],
            "callbacks": self._changed_attributes(),
        }
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, folder / _FILE.format(rank=trainer.args.process_index))

    def load(self, folder: Path) -> bool:
        """Put back what :meth:`save` wrote; call it when transformers has reset its own.

        Args:
            folder: the checkpoint's folder, with every rank's files.

        Returns:
            False where the checkpoint has none: it is bare transformers' own.
        """
        trainer = self._trainer
        files = sorted(folder.glob(_FILE.format(rank="*")))
        if not files:
            return False
        own = folder / _FILE.format(rank=trainer.args.process_index)
        if len(files) == trainer.args.world_size and own in files:
            files = [own]
        found = [torch.load(file, weights_only=True) for file in files]
        state = found[0]
        # The ranks' mean is what is logged; with another number of ranks every one of them has it.
        loss = torch.stack([each["loss"] for each in found]).mean() if len(found) > 1 else state["loss"]
        trainer._tr_loss = loss.to(trainer._tr_loss.device)
        trainer._total_loss_scalar = state["total_loss"]
        trainer._globalstep_last_logged = state["last_logged"]
        trainer._initial_global_step = state["initial_step"]
        self._before = state["seconds"]
        self._epoch_random, self._batch_random = state["epoch_random"], state["batch_random"]
        if self._generator is not None and state["generator"] is not None:
            self._generator.set_state(state["generator"])
        self._put_back_attributes(state["callbacks"])
        return True

    def reenter_epoch(self, state: TrainerState, folder: Path) -> None:
        """Go back to the random state in which the resumed epoch began."""
        if state.epoch is None or float(state.epoch).is_integer():
            # transformers does so too, but later than this.
            self._load_rng_state(str(folder))
            self.begin_epoch()
            return
        if self._epoch_random is not None:
            _set_random_state(self._epoch_random, self._generator)
        if self._batch_random is not None:
            # One batch was made before the save and trained on after it. transformers puts the state of the save back
            # when that batch and those of the next step are made, which have to be made from it.
            waiting = self._batch_random
            self._before_batches = [lambda: _set_random_state(waiting), lambda: self._load_rng_state(str(folder))]
            self._trainer._load_rng_state = self._load_nothing  # type: ignore[method-assign]  # put in the place of it

    def _load_nothing(self, checkpoint: str | None) -> None:
        self._trainer._load_rng_state = self._load_rng_state  # type: ignore[method-assign]  # put in the place of it

    def _watch(self, loader: Any) -> Any:
        # accelerate's loader, which makes a batch ahead; any other one makes what it gives.
        base = getattr(loader, "base_dataloader", None)
        if isinstance(base, DataLoader) and not isinstance(base.dataset, IterableDataset):
            iterate = base.__iter__
            vars(base)["__iter__"] = lambda: self._batches(iterate())  # accelerate calls it by name
        # A sampler that draws from a generator of its own: with accelerate's use_seedable_sampler=False.
        self._generator = getattr(loader, "synchronized_generator", None)
        return loader

    def _batches(self, batches: Iterator[Any]) -> Iterator[Any]:
        if self._before_batches:
            _draw_order(batches)
        while True:
            if self._before_batches:
                self._before_batches.pop(0)()
            self._batch_random = _random_state()
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch

    def _with_time_before(self, finalize: Callable[..., Any]) -> Callable[..., Any]:
        def finalize_training(trial: Any, num_train_samples: Any, start_time: float) -> Any:
            # transformers goes by the machine's clock, which may have been set meanwhile.
            set_by = (time.time() - self._clock) - (time.monotonic() - self._began)
            return finalize(trial, num_train_samples, start_time + set_by - self._before)

        return finalize_training

    def _callback_attributes(self) -> list[tuple[str, dict[str, Any]]]:
        callbacks = self._trainer.callback_handler.callbacks
        return [(type(callback).__qualname__, _plain_attributes(callback)) for callback in callbacks]

    def _changed_attributes(self) -> list[tuple[str, dict[str, Any]]]:
        changed = []
        for (name, before), (_, now) in zip(self._attributes, self._callback_attributes(), strict=False):
            changed.append((name, {key: value for key, value in now.items() if before.get(key, ...) != value}))
        return changed

    def _put_back_attributes(self, changed: list[tuple[str, dict[str, Any]]]) -> None:
        for callback, (name, values) in zip(self._trainer.callback_handler.callbacks, changed, strict=False):
            if type(callback).__qualname__ == name:
                vars(callback).update(values)


def _then(function: Callable[..., Any], after: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: after(function(*args, **kwargs))


def _draw_order(batches: Any) -> None:
    """Have a torch loader's iterator draw the order of the examples now, and not when it makes the first batch."""
    indices = getattr(batches, "_sampler_iter", None)
    if indices is not None:
        first = list(itertools.islice(indices, 1))
        batches._sampler_iter = itertools.chain(first, indices)


def _plain_attributes(thing: object) -> dict[str, Any]:
    return {name: _copy(value) for name, value in getattr(thing, "__dict__", {}).items() if _is_plain(value)}


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return type(value)(map(_copy, value)) if isinstance(value, list | tuple) else value


def _is_plain(value: Any) -> bool:
    # What torch.load reads without running code.
    if type(value) is dict:
        return all(map(_is_plain, [*value, *value.values()]))
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _random_state(generator: torch.Generator | None = None) -> dict[str, Any]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "generator": generator.get_state() if generator is not None else None,
    }


def _set_random_state(state: dict[str, Any], generator: torch.Generator | None = None) -> None:
    name, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if generator is not None and state["generator"] is not None:
        generator.set_state(state["generator"])

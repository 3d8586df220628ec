"""What a resumed run needs beside transformers' checkpoint: collected from one Trainer, put back into another."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from raytrainer.continuation import Continuation, _copy, _is_plain
from tests.ray.recipes import classify_words

pytestmark = pytest.mark.trains


class Noting(TrainerCallback):
    """Has attributes of every kind, and changes some of them while it trains."""

    def __init__(self, patience: int = 3) -> None:
        self.patience = patience
        self.steps = 0
        self.history: list[float] = []
        self.nested: dict[Any, Any] = {"best": [1.0], ("a", 1): {"deep": (1, [2])}}
        self.untouched = {"a": [1]}
        self.lock: object = object()
        self.numbers = np.zeros(1)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.steps += 1
        self.history.append(0.5 * state.global_step)
        self.nested["best"].append(2.0)
        self.nested["a", 1]["deep"][1].append(state.global_step)
        self.lock, self.numbers = object(), np.ones(1)
        self.added = f"at {state.global_step}"


class Other(TrainerCallback):
    steps = 0


def bare(folder: Path, *callbacks: TrainerCallback, **arguments: Any) -> Trainer:
    values = {"max_steps": 3, "per_device_train_batch_size": 4, "report_to": "none", "save_strategy": "no", **arguments}
    args = TrainingArguments(str(folder / "out"), use_cpu=True, disable_tqdm=True, **values)
    return Trainer(args=args, callbacks=[*callbacks], **classify_words())


CHANGED = {
    "steps": 3,
    "history": [0.5, 1.0, 1.5],
    "nested": {"best": [1.0, 2.0, 2.0, 2.0], ("a", 1): {"deep": (1, [2, 1, 2, 3])}},
    "added": "at 3",
}


def test_what_training_changed_in_callbacks_is_collected(tmp_path: Path) -> None:
    trainer = bare(tmp_path, Noting())
    continuation = Continuation(trainer)
    assert all(changed == {} for _, changed in continuation._changed_attributes())
    trainer.train()
    collected = continuation._changed_attributes()
    assert [name for name, _ in collected] == [type(c).__qualname__ for c in trainer.callback_handler.callbacks]
    assert dict(collected)["Noting"] == CHANGED


def test_what_is_collected_does_not_change_with_the_callback(tmp_path: Path) -> None:
    noting = Noting()
    trainer = bare(tmp_path, noting)
    continuation = Continuation(trainer)
    trainer.train()
    collected = dict(continuation._changed_attributes())["Noting"]
    noting.history.append(9)
    noting.nested["a", 1]["deep"][1].clear()
    assert collected == CHANGED


def test_it_is_put_back_and_the_rest_is_the_new_callbacks_own(tmp_path: Path) -> None:
    trainer = bare(tmp_path, Noting())
    continuation = Continuation(trainer)
    trainer.train()
    again = Noting(patience=9)
    lock = again.lock
    resumed = bare(tmp_path, again)
    Continuation(resumed)._put_back_attributes(continuation._changed_attributes())
    assert vars(again).items() >= CHANGED.items()
    assert (again.patience, again.untouched, again.lock) == (9, {"a": [1]}, lock)
    assert again.numbers.tolist() == [0]


def test_other_callbacks_get_nothing(tmp_path: Path) -> None:
    trainer = bare(tmp_path, Noting())
    continuation = Continuation(trainer)
    trainer.train()
    other, last = Other(), Noting()
    Continuation(bare(tmp_path, other, last))._put_back_attributes(continuation._changed_attributes())
    assert vars(other) == {}
    assert last.steps == 0


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text(max_size=4) | st.tuples(st.integers()), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(PLAIN)
def test_what_is_plain_is_read_again_without_running_code(tmp_path: Path, value: Any) -> None:
    assert _is_plain(value)
    file = tmp_path / uuid.uuid4().hex
    torch.save(_copy(value), file)
    assert repr(torch.load(file, weights_only=True)) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        np.float64(1),
        np.ones(1),
        torch.ones(1),
        b"bytes",
        {1},
        [[object()]],
        {"a": {1}},
        {frozenset(): 1},
        print,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_plain(value: object) -> None:
    assert not _is_plain(value)


# Through files


class Continuing(TrainerCallback):
    """Saves after step 3, and goes on from a folder where it is given one."""

    def __init__(self, resume: Path | None = None) -> None:
        self.resume = resume
        self.continuation: Continuation | None = None
        self.loaded = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.continuation.begin()
        if self.resume is not None:
            self.loaded = self.continuation.load(self.resume)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.continuation.begin_epoch()


def continued(folder: Path, callback: Continuing, *callbacks: TrainerCallback, **arguments: Any) -> Trainer:
    trainer = bare(folder, callback, *callbacks, **arguments)
    callback.continuation = Continuation(trainer)
    trainer.train()
    return trainer


@pytest.fixture
def first(tmp_path: Path) -> tuple[Trainer, Continuing, Noting]:
    callback, noting = Continuing(), Noting()
    trainer = continued(tmp_path, callback, noting, logging_steps=2)
    callback.continuation.save(tmp_path / "saved")
    return trainer, callback, noting


def test_loss_and_callbacks_go_on(first: tuple[Trainer, Continuing, Noting], tmp_path: Path) -> None:
    trainer, _, noting = first
    after, again = Continuing(tmp_path / "saved"), Noting()
    resumed = continued(tmp_path, after, again, max_steps=1, logging_steps=100)
    assert after.loaded
    # One more step on top of three.
    assert resumed._total_loss_scalar > trainer._total_loss_scalar > 0
    assert resumed._globalstep_last_logged == trainer._globalstep_last_logged
    assert again.history == [*noting.history, 0.5]
    assert again.steps == 4


def test_time_goes_on(first: tuple[Trainer, Continuing, Noting], tmp_path: Path) -> None:
    file = tmp_path / "saved/raytrainer_state_0.pt"
    state = torch.load(file, weights_only=True)
    assert 0 < state["seconds"] < 600
    torch.save({**state, "seconds": 5000.0}, file)
    resumed = continued(tmp_path, Continuing(tmp_path / "saved"), max_steps=1)
    assert 5000 < resumed.state.log_history[-1]["train_runtime"] < 5600


def test_a_checkpoint_of_bare_transformers_has_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-3").mkdir()
    after, noting = Continuing(tmp_path / "checkpoint-3"), Noting()
    continued(tmp_path, after, noting, max_steps=1)
    assert not after.loaded
    assert noting.steps == 1


def test_of_several_workers_losses_one_gets_the_mean(first: tuple[Trainer, Continuing, Noting], tmp_path: Path) -> None:
    trainer, callback, _ = first
    state = torch.load(tmp_path / "saved/raytrainer_state_0.pt", weights_only=True)
    for rank, loss in enumerate((1.0, 4.0, 1.0)):
        torch.save({**state, "loss": torch.tensor(loss)}, tmp_path / f"saved/raytrainer_state_{rank}.pt")
    assert callback.continuation.load(tmp_path / "saved")
    assert trainer._tr_loss.item() == 2.0


DRAWS: list[Callable[[], float]] = [
    *(lambda: random.gauss(0, 1), random.random, lambda: np.random.normal(), np.random.random),
    lambda: float(torch.rand(1)),
]


def test_the_epoch_is_entered_with_the_random_state_it_began_with(tmp_path: Path) -> None:
    trainer = bare(tmp_path)
    trainer.train()
    continuation = Continuation(trainer)
    random.gauss(0, 1), np.random.normal()  # what they keep for the next call is part of the state
    continuation.begin_epoch()
    drawn = [draw() for draw in DRAWS]
    continuation.save(tmp_path / "saved")
    other = Continuation(trainer)
    other.load(tmp_path / "saved")
    state = TrainerState(epoch=1.5)
    for _ in range(2):
        other.reenter_epoch(state, tmp_path / "saved")
        assert [draw() for draw in DRAWS] == drawn

"""A trial's training stands still after every evaluation until it is told what to do."""

from __future__ import annotations

import threading
from collections.abc import Callable

from raytrainer.events import Evaluated
from raytrainer.sweep.training import Over, Training
from raytrainer.wire import Verdict

Judge = Callable[[Evaluated], Verdict]


def evaluated(step: int, checkpoint: str | None = None) -> Evaluated:
    return Evaluated(step, 3, None, {"eval_loss": float(step)}, 0.0, checkpoint)


def test_it_goes_on_when_it_is_told_to() -> None:
    heard: list[Verdict] = []

    def train(judge: Judge) -> str:
        for step in (1, 2):
            heard.append(judge(evaluated(step)))
        return "done"

    training = Training(train)
    assert training.next() == evaluated(1)
    assert heard == []
    training.answer(Verdict.SAVE)
    assert training.next() == evaluated(2)
    assert heard == [Verdict.SAVE]
    training.answer(Verdict.GO_ON)
    assert training.next() == Over(result="done")
    assert training.over == Over(result="done")
    assert heard == [Verdict.SAVE, Verdict.GO_ON]


def test_what_it_raises_is_handed_over() -> None:
    def train(judge: Judge) -> None:
        raise ValueError("broken")

    over = Training(train).next()
    assert isinstance(over, Over)
    assert isinstance(over.error, ValueError)


def test_one_that_waits_is_halted_at_once() -> None:
    ended = threading.Event()

    def train(judge: Judge) -> None:
        assert judge(evaluated(1)) is Verdict.STOP
        ended.set()

    training = Training(train)
    training.next()
    assert training.halt(60)
    assert ended.is_set()


def test_one_that_trains_is_halted_at_its_next_evaluation() -> None:
    go, ended = threading.Event(), threading.Event()

    def train(judge: Judge) -> None:
        go.wait()
        assert judge(evaluated(1)) is Verdict.STOP
        ended.set()

    training = Training(train)
    assert not training.halt(0.01)
    go.set()
    assert training.halt(60)
    assert ended.is_set()

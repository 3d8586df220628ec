"""A training that is a trial asks after every evaluation what to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raytrainer.events import Evaluated
from raytrainer.pacing import Pacing
from raytrainer.wire import Verdict


class Judge:
    """A wire to a trial that asks for each checkpoint."""

    def __init__(self) -> None:
        self.asked: list[Evaluated] = []

    def judge(self, evaluated: Evaluated) -> Verdict:
        self.asked.append(evaluated)
        return Verdict.SAVE

    def share(self, key: str, value: Any, rank: int, count: int) -> Any:
        return value


@pytest.mark.parametrize("ends", [False, True])
def test_an_evaluation_says_whether_the_training_ends_with_it(ends: bool) -> None:
    trainer: Any = SimpleNamespace(
        state=SimpleNamespace(global_step=4, max_steps=8, epoch=0.5, is_world_process_zero=True),
        # A callback has seen the metrics before, and may have ended it.
        control=SimpleNamespace(should_training_stop=ends, should_save=False),
        args=SimpleNamespace(process_index=0, world_size=1),
        _determine_best_metric=lambda metrics, trial: False,
    )
    judge: Any = Judge()
    pacing = Pacing(trainer, judge, "one")
    assert trainer._determine_best_metric({"eval_loss": 0.5}, None)
    pacing.saved("checkpoint-4")
    assert [(each.step, each.checkpoint, each.last) for each in judge.asked] == [
        (4, None, ends),
        (4, "checkpoint-4", ends),
    ]

"""A trial's training stands still after every evaluation until it is told what to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.air.execution.resources.request as requests
from ray.train.v2.api.config import ScalingConfig

from raytrainer.checkpoints import Store
from raytrainer.events import Evaluated, Logged, Note
from raytrainer.sweep.record_files import read_trial
from raytrainer.sweep.recorder import Recorder
from raytrainer.sweep.records import TrialRecord
from raytrainer.sweep.training import Over, Training
from raytrainer.sweep.trial import POINTER, WARNINGS, SweepTrial, request
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


class Late(SweepTrial):
    """A trial of a script that evaluates once, when its training is over."""

    def __init__(self, folder: Path) -> None:
        self._store, self._number = Store(str(folder)), 1
        self._trial_info = None
        self._teller = self._training = self._waiting = None

    def _before(self) -> None:
        return None

    def _train(self, judge: Judge) -> None:
        self._recorder = Recorder(self._store, TrialRecord("t", self._number, "random"))
        self._recorder.handle(Logged(8, 8, 1.0, {"eval_loss": 0.5}, 0.0))
        self._recorder.handle(Note("slow", warning=True))


def test_an_evaluation_after_the_training_ends_the_trial(tmp_path: Path) -> None:
    trial = Late(tmp_path)
    result = trial.step()
    assert (result["eval_loss"], result["step"], result[WARNINGS]) == (0.5, 8, ["slow"])
    # Asked for another step, the trial would wait for a training that is over.
    assert result["done"]
    assert [entry.step for entry in read_trial(Store(str(tmp_path)), 1).history] == [8]
    # What was saved is the script's own affair: there is no training left that could be asked for it.
    trial.save_checkpoint(str(tmp_path))
    assert "address" not in json.loads((tmp_path / POINTER).read_text())


@pytest.mark.parametrize("labels", [{"zone": "a"}, [{"zone": "b"}]])
def test_a_trial_of_one_worker_is_where_the_workers_labels_are(labels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scaling = ScalingConfig(num_workers=1, label_selector=labels)
    study: Any = SimpleNamespace(complete=dict, scaling=lambda values: scaling, apart=lambda scaling: False)
    factory, made = request(study, {}), dict[str, Any]()
    monkeypatch.setattr(requests, "placement_group", lambda *args, **given: made.update(given, bundles=args[0]))
    # As Ray Tune does it when a trial is about to start.
    factory.to_placement_group()
    assert made["bundles"] == [{"CPU": 1.0}]
    assert made["bundle_label_selector"] == (labels if isinstance(labels, list) else [labels])

"""A trial as Ray Tune runs it: its process stays warm and takes one trial after the other."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import ray
from ray import cloudpickle, tune
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.result import DONE, RESULT_DUPLICATE

from raytrainer.checkpoints import Store
from raytrainer.errors import TrainingFailed
from raytrainer.events import Evaluated
from raytrainer.job import Job
from raytrainer.orders import find_modules_in, free_memory
from raytrainer.run import fit
from raytrainer.sweep.here import run_here
from raytrainer.sweep.record_files import read_end, read_trial, trial_folder
from raytrainer.sweep.recorder import Recorder
from raytrainer.sweep.records import TrialRecord
from raytrainer.sweep.study import Study, Turn, sampled_of
from raytrainer.sweep.suggestions import GROUP, ORIGIN, REPEAT
from raytrainer.sweep.telling import Teller
from raytrainer.sweep.training import Over, Training
from raytrainer.wire import Verdict
from raytrainer.worker import settle_in

POINTER = "pointer.json"
"""What Ray Tune keeps as a trial's checkpoint: where the real one is."""
WARNINGS = "__warnings__"
"""In a result, beside the metrics: what the user should see."""
LAST = "__last__"
"""In a result, beside the metrics: whether the training ends with it, which Ray Tune hears only when it has ended."""
# Seconds for a training to end that stands at an evaluation; its workers are released then.
_HALT_S = 60.0


class SweepTrial(tune.Trainable):
    """Trial's process: each step is the training up to its next evaluation.

    Ray Tune asks for a checkpoint only where its scheduler wants one or the sweep keeps it; it is saved then, while the
    training stands at its evaluation. A training of one worker runs in this process, one of several, or of a script,
    on Ray Train's.

    Attributes:
        study: the study, pickled, in the object store.
        folder: the sweep's.
        here: environment variables and the working directory of the driver, and its module search path.
        post: the actor that is told what a training logs; None where nobody wants to know.
    """

    study: ClassVar[Any]
    folder: ClassVar[Store]
    here: ClassVar[tuple[dict[str, str], str, list[str]]]
    post: ClassVar[Any]

    _teller: Teller | None
    _training: Training | None
    _waiting: Evaluated | None
    _clone_of: dict[str, Any] | None

    def setup(self, config: dict[str, Any]) -> None:
        # A line for each result and checkpoint, of every trial: the driver's view shows them.
        for name in ("ray.tune", "ray.train"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._study: Study = cloudpickle.loads(ray.get(self.study))
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        if not self._end():
            return False
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        self._end()

    def step(self) -> dict[str, Any]:
        if self._training is None:
            if (result := self._before()) is not None:
                return result
            self._training = Training(self._train)
        else:
            self._training.answer(Verdict.GO_ON)
        return self._result(self._training.next())

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        if self._training is not None and self._waiting is not None and self._waiting.checkpoint is None:
            self._training.answer(Verdict.SAVE)
            said = self._training.next()
            if isinstance(said, Over):
                raise said.error or TrainingFailed("the training ended where a checkpoint was asked for")
            self._waiting = said
        where = self._waiting and {"address": self._waiting.checkpoint, "step": self._waiting.step}
        pointer = {"trial": self.trial_id, "number": self._number, **(where or {})}
        (Path(checkpoint_dir) / POINTER).write_text(json.dumps(pointer))

    def load_checkpoint(self, checkpoint: Any) -> None:
        pointer = json.loads((Path(checkpoint) / POINTER).read_text())
        # A trial's own checkpoints are found in its folder, where there may be a newer one.
        self._clone_of = pointer if pointer["trial"] != self.trial_id else None

    def _begin(self, config: dict[str, Any]) -> None:
        environment, directory, path = self.here
        find_modules_in(path)
        settle_in(environment, directory, use_cpu=False)
        self._number = int(Path(self._storage.trial_fs_path).name)  # type: ignore[union-attr]  # Ray Tune set it
        self._sampled = sampled_of(config)
        self._repeat = config.get(REPEAT, 0)
        self._values = self._study.complete(config)
        self._teller = None
        self._training = None
        self._waiting = None
        self._clone_of = None

    def _before(self) -> dict[str, Any] | None:
        """Return the last result of a trial that had ended before the driver died, and Ray Tune had not noted it."""
        end = read_end(self.folder, self._number)
        if end is None or end.state not in ("finished", "stopped") or self._clone_of is not None:
            return None
        record = read_trial(self.folder, self._number)
        if record.id != self.trial_id or not record.history:
            return None
        last = record.history[-1]
        evaluated = Evaluated(last.step, record.max_steps, last.epoch, last.metrics, last.time)
        return {**_reported(evaluated, record.seconds), DONE: True}

    def _train(self, judge: Callable[[Evaluated], Verdict]) -> Any:
        scaling = self._study.scaling(self._values)
        gpus = scaling.max_workers * scaling._resources_per_worker_not_none.get("GPU", 0)
        record = TrialRecord(
            self.trial_id,
            self._number,
            origin=self.config.get(ORIGIN, "model"),
            group=self.config.get(GROUP),
            sampled=self._sampled,
            values=self._values,
            workers=scaling.max_workers,
            gpus=gpus,
            began=time.time(),
        )
        self._recorder = Recorder(self.folder, record)
        if self._clone_of is not None:
            donor = self._clone_of
            self._recorder.change(donor["step"], self._values, donor["trial"], donor["number"])
        self._recorder.write()
        self._teller = Teller(self.post, self._recorder.record) if self.post is not None else None
        turn = Turn(
            values=self._values,
            number=self._number,
            repeat=self._repeat,
            folder=trial_folder(self.folder, self._number),
            run=f"{self.trial_id}-{len(self._recorder.record.changes)}",
            clone_of=self._clone_of["address"] if self._clone_of else None,
            sinks=[self._recorder, *([self._teller] if self._teller else [])],
            judge=judge,
        )
        work = self._study.work(turn)
        return fit(work, tidied=True) if self._study.apart(scaling) else run_here(cast("Job", work))

    def _result(self, said: Evaluated | Over) -> dict[str, Any]:
        if self._teller is not None:
            self._teller.settle()
        if isinstance(said, Over):
            if said.error is not None:
                raise said.error
            self._waiting = None
            # One that goes on from its last step has been evaluated before.
            if self._recorder.record.history:
                return {RESULT_DUPLICATE: True, DONE: True}
            if self._recorder.last_logged is None:
                raise TrainingFailed("the trial ended without an evaluation, so there is nothing to compare it by")
            evaluated = self._recorder.last_logged
        else:
            self._waiting = evaluated = said
        self._recorder.evaluated(evaluated)
        result = {**_reported(evaluated, self._recorder.record.seconds), DONE: self._waiting is None}
        if self._recorder.warnings:
            result[WARNINGS], self._recorder.warnings = self._recorder.warnings, []
        return result

    def _end(self) -> bool:
        """End the training that goes on, and free what it held."""
        training, self._training = self._training, None
        ended = training is None or training.over is not None or training.halt(_HALT_S)
        del training
        free_memory()
        return ended


def _reported(evaluated: Evaluated, seconds: float) -> dict[str, Any]:
    own = {"step": evaluated.step, "epoch": evaluated.epoch, "max_steps": evaluated.max_steps, "seconds": seconds}
    return {**evaluated.metrics, **own, LAST: evaluated.last}


def trial_class(
    study: Study, folder: Store, here: tuple[dict[str, str], str, list[str]], post: Any = None
) -> type[SweepTrial]:
    """Return the class that Ray Tune makes trials of.

    Args:
        study: makes a run of each trial's values.
        folder: the sweep's.
        here: environment variables, working directory and module search path of the driver.
        post: the actor that is told what trials log, None for none.
    """
    reference, one = ray.put(cloudpickle.dumps(study)), study

    class Trial(SweepTrial):
        @classmethod
        def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
            return request(one, config)

    Trial.study, Trial.folder, Trial.here, Trial.post = reference, folder, here, post
    return Trial


def request(study: Study, config: dict[str, Any]) -> PlacementGroupFactory:
    """Return what a trial's process asks for: what its one worker needs, or, where others do the work, memory."""
    scaling = study.scaling(study.complete(config))
    if study.apart(scaling):
        # Memory, because every node has it: the workers ask for CPUs and GPUs themselves, all at once.
        return PlacementGroupFactory([{"memory": 2.0**28}])
    asked = {name: amount for name, amount in scaling._resources_per_worker_not_none.items() if amount}
    return PlacementGroupFactory([asked], bundle_label_selector=scaling._label_selector_per_worker(1))

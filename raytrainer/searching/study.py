"""The sweep of a trainer: each trial is what its ``train()`` would run, with other training arguments."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from ray.train.v2.api.config import RunConfig, ScalingConfig

from raytrainer.arguments import derives_fields, field_values, rebuild
from raytrainer.checkpoints import Store, parted
from raytrainer.deepspeed_config import config_for, read_config
from raytrainer.errors import ArgumentsError, Problem
from raytrainer.events import Evaluated
from raytrainer.job import Job
from raytrainer.recording import Recording
from raytrainer.searching.goals import Goals
from raytrainer.searching.names import Names
from raytrainer.searching.values import TrialValues
from raytrainer.sweep.record_files import folder_name
from raytrainer.sweep.study import Turn, sampled_of, trial_job, trial_settings
from raytrainer.wire import Verdict


class TrainerStudy:
    """Makes a run of a trial's values; see :class:`raytrainer.sweep.study.Study`.

    Args:
        job: what ``train()`` would run.
        scaling: the workers of every trial.
        names: what the names of the search space mean.
        goals: what the search goes by.
        hp_name: names a trial; None for what the training arguments say.
    """

    def __init__(
        self,
        job: Job,
        scaling: ScalingConfig,
        names: Names,
        goals: Goals,
        hp_name: Callable[[Any], Any] | None,
    ) -> None:
        self._job, self._scaling, self._names, self._goals, self._hp_name = job, scaling, names, goals, hp_name

    def complete(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a trial trains with: whole numbers where the training arguments want them."""
        return self._names.fitted(sampled_of(config))

    def scaling(self, values: Mapping[str, Any]) -> ScalingConfig:
        """Return the workers of every trial."""
        return self._scaling

    def apart(self, scaling: ScalingConfig) -> bool:
        """Tell whether a trial has several workers."""
        return scaling.max_workers > 1

    def work(self, turn: Turn) -> Job:
        """Return a trial's run.

        Raises:
            ArgumentsError: ``hp_name`` gives it no name.
        """
        kind, base = self._job.arguments
        trial = TrialValues(turn.values, turn.number)
        changed = {name: value for name, value in trial.items() if name in self._names.fields}
        changed |= trial_settings({**base, **changed})
        local = str(turn.folder.folder) if turn.folder.local else _elsewhere(base["output_dir"], turn.number)
        changed |= {"output_dir": local, **self._named(trial)}
        if "deepspeed" in changed:
            changed["deepspeed"] = config_for("train", read_config(changed["deepspeed"]))
        values = {**base, **changed}
        if derives_fields(kind):
            # Once more here: a worker takes the fields as they stand.
            values = {**field_values(rebuild(kind, base, **{**changed, "use_cpu": True})), "use_cpu": base["use_cpu"]}
        assert isinstance(self._job.factory, Recording)
        job = dataclasses.replace(
            self._job,
            factory=dataclasses.replace(self._job.factory, trial=trial),
            arguments=(kind, values),
            scaling=self._scaling,
            run=_run_of(self._job.run, turn.folder),
        )
        return trial_job(job, dataclasses.replace(turn, judge=self._judge(turn.judge)))

    def _judge(self, judge: Callable[[Evaluated], Verdict]) -> Callable[[Evaluated], Verdict]:
        """Add the search's figures to an evaluation."""

        def judged(evaluated: Evaluated) -> Verdict:
            figures = self._goals.figures(evaluated.metrics)
            return judge(dataclasses.replace(evaluated, metrics={**evaluated.metrics, **figures}))

        return judged

    def _named(self, trial: TrialValues) -> dict[str, Any]:
        if self._hp_name is None:
            return {}
        name = self._hp_name(trial)
        if not isinstance(name, str) or not name:
            raise ArgumentsError(Problem("hp_name", name, "it is no name", "a function of the trial that returns text"))
        return {"run_name": name}


def _run_of(run: RunConfig, trial: Store) -> RunConfig:
    """Let what Ray Train writes for a trial of several workers be in the trial's folder."""
    parent, name = parted(trial.path)
    return dataclasses.replace(run, storage_path=parent, name=name, storage_filesystem=trial.filesystem)


def _elsewhere(output_dir: str, number: int) -> str:
    """Return a trial's folder on the machine where it runs, where the search's is in an object store."""
    return os.path.join(output_dir, "trials", folder_name(number))

"""The sweep of a config: each trial is the config with other values."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ray
from ray.train.v2.api.config import LoggingConfig, RunConfig, ScalingConfig

from raytrainer import cluster
from raytrainer.checkpoints import parted
from raytrainer.config.schema import Script
from raytrainer.config.section import Storage, Trained
from raytrainer.job import OF_MLFLOW, Work
from raytrainer.launch.scaling import scaling_config
from raytrainer.launch.sending import Sent
from raytrainer.script_job import ScriptJob
from raytrainer.sweep.known import of_base
from raytrainer.sweep.record_files import folder_name
from raytrainer.sweep.study import Turn, sampled_of, trial_job, trial_settings
from raytrainer.sweep.suggestions import ORIGIN

if TYPE_CHECKING:
    from raytrainer.config.sweep import SweepLoaded
    from raytrainer.launch.plan import Plan
    from raytrainer.sweep.space import Space


class ConfigStudy:
    """Makes a run of a config's values; see :class:`raytrainer.sweep.study.Study`.

    Args:
        sweep: the sweep's config.
        space: its search space.
        cache: where prepared data is kept, for all trials; None where the config's own function has the data.

    Attributes:
        sent: the folder with the code of the user's own, for other machines; None where all have it.
    """

    sent: Sent | None = None

    def __init__(self, sweep: SweepLoaded, space: Space, cache: str | None) -> None:
        self._sweep, self._space, self._cache = sweep, space, cache
        self._directory = os.getcwd()  # a trial's process may be elsewhere

    def complete(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a trial trains with; the base as it is has no expressions in it."""
        if config.get(ORIGIN) == "default":
            return of_base(self._space, self._sweep.base)
        return self._space.complete(sampled_of(config), self._sweep.base)

    def scaling(self, values: Mapping[str, Any]) -> ScalingConfig:
        """Return the workers that a trial asks for: one, with a GPU if there is any, where the config does not say."""
        asked = self._sweep.trial_config(values).scaling
        scaling = scaling_config(asked)
        if scaling is None:
            return ScalingConfig(use_gpu=ray.is_initialized() and cluster.default_scaling().use_gpu)
        return scaling

    def apart(self, scaling: ScalingConfig) -> bool:
        """Tell whether a trial has several workers, or one for a script, which wants a process of its own."""
        return scaling.max_workers > 1 or "script" in self._sweep.base

    def planned(self, config: Trained, folder: str = "runs/trial", repeat: int = 0) -> Plan:
        """Work out what a trial's config comes to; starts nothing.

        Args:
            config: the trial's.
            folder: where it is kept.
            repeat: which repeat of its values it is, from 0.

        Raises:
            UserError: its settings do not fit each other.
        """
        from raytrainer.launch.plan import plan

        parent, name = parted(folder)
        changed: dict[str, Any] = {
            "name": name,
            "run": Storage(storage_path=parent, env=config.run.env),
            "mlflow": None,
            "training": trial_arguments(config.training, repeat),
        }
        if self._cache is not None and config.data.cache is None:  # type: ignore[attr-defined]  # a task has it
            changed["data"] = config.data.model_copy(update={"cache": self._cache})  # type: ignore[attr-defined]  # as above
        planned = plan(config.model_copy(update=changed))
        # A trial is recorded elsewhere, but the best one's model may go to MLflow: the workers hold it against that.
        return dataclasses.replace(planned, config=planned.config.model_copy(update={"mlflow": config.mlflow}))

    def work(self, turn: Turn) -> Work:
        """Return a trial's run."""
        config = self._sweep.trial_config(turn.values)
        if isinstance(config, Script):
            return self._script_job(config, turn)
        from raytrainer.launch.fast import hasten
        from raytrainer.launch.plan import job_of

        scaling = self.scaling(turn.values)
        config, _ = hasten(config, scaling)
        planned = dataclasses.replace(self.planned(config, turn.folder.path, turn.repeat), scaling=scaling)
        job = dataclasses.replace(job_of(planned, False, self.sent), travelling=self.travelling)
        return trial_job(job, turn)

    def _script_job(self, config: Script, turn: Turn) -> ScriptJob:
        """Return a trial's run of a script, which has the values among its arguments.

        An ``--output_dir`` of the script's is the trial's own: trials that run at the same time would share it.
        """
        sent, arguments = self.sent, list(config.args)
        if turn.folder.local and any(argument.partition("=")[0] == "--output_dir" for argument in arguments):
            arguments += ["--output_dir", str(turn.folder.folder / "output")]
        return ScriptJob(
            target=os.path.join(self._directory, config.script),
            module=False,
            arguments=arguments,
            scaling=self.scaling(turn.values),
            run=RunConfig(
                name=folder_name(turn.number),
                storage_path=parted(turn.folder.path)[0],
                storage_filesystem=turn.folder.filesystem,
                logging_config=LoggingConfig(log_level="WARNING"),
                worker_runtime_env=sent.runtime_env if sent else None,
            ),
            directory=self._directory,
            root=sent.root if sent else None,
            node=sent.node if sent else None,
            storage=turn.folder,
            travelling=self.travelling,
            sinks=turn.sinks,
            judge=turn.judge,
            name=turn.run,
            clone_of=turn.clone_of,
        )

    @property
    def travelling(self) -> list[str]:
        """Names of the variables that trials get of the driver's environment, and their workers of theirs."""
        base = self._sweep.base
        return [*base["run"]["env"], *(OF_MLFLOW if base["mlflow"] is not None else [])]


def trial_arguments(training: Mapping[str, Any], repeat: int) -> dict[str, Any]:
    """Return the training arguments of a trial; it saves for itself only where the config says when.

    Args:
        training: as the config has them, with the trial's values.
        repeat: which repeat of these values it is, from 0; each has a seed of its own.
    """
    arguments = {"save_strategy": "steps" if "save_steps" in training else "no", **training}
    arguments |= trial_settings(arguments)
    if repeat:
        arguments["seed"] = arguments.get("seed", 42) + repeat
    return arguments

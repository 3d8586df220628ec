"""What a sweep is a sweep of: something that makes a run of each trial's values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ray.train.v2.api.config import ScalingConfig

from raytrainer import shipping
from raytrainer.checkpoints import Store
from raytrainer.events import Evaluated
from raytrainer.job import Job, Work
from raytrainer.keeping import Keep
from raytrainer.resuming import Recovery
from raytrainer.sinks import Sink
from raytrainer.wire import Verdict


@dataclass(frozen=True)
class Turn:
    """A trial's turn to train: at its start, after a failure or a pause, or as the clone of another trial.

    Args:
        values: completed.
        number: the trial's.
        repeat: which repeat of its values it is, from 0.
        folder: the trial's.
        run: name of its training, the same until it becomes a clone; it goes on from checkpoints of this name.
        clone_of: the address of another trial's checkpoint to go on from, None where it is no clone.
        sinks: who is told what happens, in the trial's process.
        judge: says what it does after each evaluation.
    """

    values: Mapping[str, Any]
    number: int
    repeat: int
    folder: Store
    run: str
    clone_of: str | None
    sinks: list[Sink]
    judge: Callable[[Evaluated], Verdict]


def sampled_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values in what Ray Tune gives a trial."""
    return {name: value for name, value in config.items() if not name.startswith("__")}


class Study(Protocol):
    """Makes a run of each trial's values. It travels to the trials' processes, pickled, once for each process."""

    def complete(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a trial trains with, of what Ray Tune gives it: expressions too, nothing that does not apply."""

    def scaling(self, values: Mapping[str, Any]) -> ScalingConfig:
        """Return the workers that a trial asks for; imports nothing heavy."""

    def apart(self, scaling: ScalingConfig) -> bool:
        """Tell whether a training with these workers has processes of its own, or is done in the trial's."""

    def work(self, turn: Turn) -> Work:
        """Return the run, which reports each evaluation to the turn's judge.

        Raises:
            UserError: the values do not go together.
        """


# A trial that asks for no evaluation: transformers evaluates after the last step.
_AT_THE_END = {"eval_strategy": "steps", "eval_steps": 10**9}


def trial_settings(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training arguments that a trial sets itself.

    The sweep takes the best checkpoints, at the evaluations that count; others are saved only by steps or epochs, so
    that a trial goes on from there after a fault.

    Args:
        training: arguments with the trial's values; those that are left out are transformers' defaults.
    """
    settings: dict[str, Any] = {"load_best_model_at_end": False}
    if training.get("save_strategy") == "best":
        settings["save_strategy"] = "no"
    return settings | (_AT_THE_END if training.get("eval_strategy", "no") == "no" else {})


def trial_job(job: Job, turn: Turn) -> Job:
    """Make a trial's turn of a job: it asks the turn's judge, and its checkpoints are in the trial's folder.

    Args:
        job: a training, with the trial's values.
        turn: the trial's.
    """
    assert job.recovery is not None
    clone = turn.clone_of is not None
    recovery = Recovery(
        store=turn.folder.below("checkpoints"),
        run=turn.run,
        keep=Keep(limit=1),
        allow_changes=clone or job.recovery.allow_changes,
        paced=True,
        adopt=clone,
    )
    call = shipping.Shipper().pack(((), {"resume_from_checkpoint": turn.clone_of} if clone else {}))
    return replace(job, call=call, recovery=recovery, finish=_nothing, sinks=turn.sinks, judge=turn.judge)


def _nothing(trainer: Any) -> None:
    """Do nothing with a trained trainer: the sweep has what it wants of it already."""

"""outcome.json: what a run came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raytrainer.checkpoints import Store
from raytrainer.plain import only_numbers
from raytrainer.run import Outcome
from raytrainer.secrets import masked
from raytrainer.tasks.factory import Finished
from raytrainer.tracking import Tracker, ui_command


@dataclass(frozen=True)
class Told:
    """What a run came to, JSON types.

    Args:
        folder: the run's.
        steps: optimizer steps done.
        metrics: of the training, the last evaluation and the test, as transformers names them: numbers, or whatever
            else a trainer's own function computes.
        best_checkpoint: the best by ``metric_for_best_model``, None without one.
        best_metric: its metric.
        model: the trained model's folder.
        mlflow: ``tracking_uri``, ``run_id`` and ``experiment_id``; None without MLflow.
        precision: what was computed in.
        precision_reason: why.
        samples_per_second: training examples a second over all workers.
        seconds: by phase, and in all.
    """

    folder: str
    steps: int
    metrics: dict[str, Any]
    best_checkpoint: str | None
    best_metric: float | None
    model: str
    mlflow: dict[str, Any] | None
    precision: str
    precision_reason: str
    samples_per_second: float | None
    seconds: dict[str, float] = field(default_factory=dict)


def outcome_of(outcome: Outcome, folder: Store, tracker: Tracker | None, before: dict[str, float]) -> Told:
    """Put together what a run came to.

    Args:
        outcome: of a training that was finished.
        folder: the run's.
        tracker: that recorded it, None without MLflow.
        before: seconds by phase until the run was asked for.
    """
    assert outcome.state is not None and outcome.precision is not None
    state, training = outcome.state, outcome.value.metrics
    finished: Finished = outcome.finished
    phases = {**before, **outcome.phases, "training": training["train_runtime"], **finished.seconds}
    phases["total"] = phases.pop("total") + sum(before.values())
    recorded = None
    if tracker is not None:
        recorded = {"tracking_uri": masked(tracker.tracking_uri), "run_id": tracker.run_id}
        recorded |= {"experiment_id": tracker.experiment_id}
    return Told(
        folder=folder.shown,
        steps=state["global_step"],
        metrics={**training, **finished.metrics},
        best_checkpoint=state["best_model_checkpoint"],
        best_metric=state["best_metric"],
        model=finished.model,
        mlflow=recorded,
        precision=outcome.precision.name,
        precision_reason=outcome.precision.reason,
        samples_per_second=training.get("train_samples_per_second"),
        seconds={name: round(seconds, 3) for name, seconds in phases.items()},
    )


def summary(told: Told, tracker: Tracker | None) -> str:
    """Say in a few lines what a run came to and where everything is."""
    timing = ("_runtime", "_per_second", "total_flos", "epoch")
    shown = {name: value for name, value in only_numbers(told.metrics).items() if not name.endswith(timing)}
    lines = [f"{name}: {value:.4g}" for name, value in shown.items()]
    lines.append(f"model: {told.model}")
    lines.append(f"all of it: {told.folder}/outcome.json")
    if tracker is not None:
        lines.append(f"MLflow: {ui_command(tracker)}")
    return "\n".join(lines)

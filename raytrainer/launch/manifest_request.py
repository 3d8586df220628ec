"""What a manifest is to be of: the parts of a run's or a sweep's config that pods follow from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from raytrainer.config.kubernetes import Kubernetes
from raytrainer.config.loading import load_config, read
from raytrainer.config.resolved import written
from raytrainer.config.section import MLflow, Scaling, Storage
from raytrainer.config.sweep import SweepLoaded, load_sweep
from raytrainer.config.sweep_base import is_sweep
from raytrainer.config.sweep_space import Expression
from raytrainer.config.tree import Node
from raytrainer.config.wording import setting
from raytrainer.errors import NOTHING, ConfigError, Problem

Kind = Literal["RayJob", "RayCluster"]
Range = tuple[int, int]


@dataclass(frozen=True)
class Request:
    """A run, or a sweep, that is to be made of pods.

    Args:
        command: ``train`` or ``tune``.
        kind: what is to be made.
        name: the run's name.
        asked: the section ``kubernetes``.
        scaling: the workers of the run, or of a trial.
        workers: the least and the most workers at a time; None where nothing says how many.
        together: the workers without which nothing begins: the run's least, or the largest trial's; None as above.
        run: storage and failures.
        mlflow: where it is recorded; None for nowhere.
        config: the config as the driver in the pod reads it; secrets are names of variables.
        root: the config with places, for errors.
    """

    command: Literal["train", "tune"]
    kind: Kind
    name: str
    asked: Kubernetes
    scaling: Scaling
    workers: Range | None
    together: int | None
    run: Storage
    mlflow: MLflow | None
    config: str = field(repr=False)
    root: Node = field(repr=False)


def request(path: str, settings: Sequence[str], kind: Kind) -> Request:
    """Load a config, of a run or of a sweep, and take from it what a manifest needs.

    Args:
        path: the file.
        settings: ``key.sub=value``, which count more than the file's.
        kind: what is to be made.

    Raises:
        ConfigError: with everything that is wrong; it has no section ``kubernetes``.
    """
    root, _, _ = read(path, settings)
    if is_sweep(root):
        sweep = load_sweep(path, settings)
        trials, trial = sweep.tune.max_concurrent_trials, _workers_of_trial(sweep)
        several = (trials * trial[0], trials * trial[1]) if trial and trials != "auto" else None
        return _request("tune", kind, sweep.base, several, trial, sweep.root)
    loaded = load_config(path, settings)
    workers = _workers(loaded.config.scaling)
    return _request("train", kind, loaded.config.model_dump(by_alias=True), workers, workers, root)


def _request(
    command: Literal["train", "tune"],
    kind: Kind,
    base: dict[str, Any],
    workers: Range | None,
    one: Range | None,
    root: Node,
) -> Request:
    if base.get("kubernetes") is None:
        reason, fix = "nothing says which image the pods have", "kubernetes: {image: registry.example.com/me/train:1}"
        raise ConfigError(Problem(setting(("kubernetes",), root), NOTHING, reason, fix))
    mlflow = base.get("mlflow", {})
    secrets = {at: node.written for at, node in root.walk() if node.written is not None}
    # Without the section: with other limits the job still goes on with the same run.
    own = {key: value for key, value in root.plain().items() if key != "kubernetes"}
    return Request(
        command=command,
        kind=kind,
        name=base["name"],
        asked=Kubernetes.model_validate(base["kubernetes"]),
        scaling=Scaling.model_validate(base.get("scaling", {})),
        workers=workers,
        together=one[0] if one else None,
        run=Storage.model_validate(base.get("run", {})),
        mlflow=None if mlflow is None else MLflow.model_validate(mlflow),
        config=written(own, secrets),
        root=root,
    )


def _workers(scaling: Scaling) -> Range | None:
    """Return the least and the most workers of a run."""
    number = scaling.num_workers
    if isinstance(number, list):
        return number[0], number[1]
    if number is None:
        return None if scaling.use_gpu or scaling.use_tpu else (1, 1)
    return number, number


def _workers_of_trial(sweep: SweepLoaded) -> Range | None:
    """Return the least and the most workers of the largest trial; None where they are computed."""
    own = _workers(Scaling.model_validate({"num_workers": 1, **_said(sweep.base.get("scaling", {}))}))
    numbers = [own] if own else []
    for entry in sweep.space.entries:
        if entry.key != "scaling.num_workers":
            continue
        if isinstance(entry, Expression):
            return None
        values = entry.values or entry.ends
        numbers = [(value[0], value[1]) if isinstance(value, list) else (value, value) for value in values]
    return max(low for low, _ in numbers), max(high for _, high in numbers)


def _said(scaling: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scaling.items() if value is not None}

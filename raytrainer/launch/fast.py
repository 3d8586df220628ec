"""``fast: true``: training arguments that the hardware decides, where the config leaves them open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.train.v2.api.config import ScalingConfig

from raytrainer.autoscaler import Resources, slots_of
from raytrainer.cluster import worker_resources
from raytrainer.config.section import Trained
from raytrainer.launch.plan import Plan, training_arguments
from raytrainer.launch.scaling import with_workers

# On CPUs a process that loads has its core from a worker: 0.93 of the speed on two cores (docs/benchmarks.md).
_NOTHING = "nothing is chosen: training says it, or there is no accelerator that would wait for data"

# More processes than these load no faster: what they read from is shared.
_MOST_LOADERS = 8


@dataclass(frozen=True)
class Choice:
    """A training argument that was chosen.

    Args:
        name: the field's.
        value: what was chosen.
        reason: why.
    """

    name: str
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"training.{self.name}: {str(self.value).lower()}, because {self.reason}"


def choices(training: Mapping[str, Any], accelerated: bool, cores: float | None) -> Iterator[Choice]:
    """Choose training arguments; what the config says is left as it is.

    Args:
        training: fields that the config sets.
        accelerated: whether the workers have a GPU or a TPU.
        cores: CPU cores for each worker on the node that has least of them; None where no node is known.
    """
    loaders = training.get("dataloader_num_workers", 0)
    if accelerated and cores is not None and "dataloader_num_workers" not in training and cores >= 2:
        loaders = min(int(cores) - 1, _MOST_LOADERS)
        reason = f"each worker has {cores:g} cores, and the accelerator need not wait for one that also collates"
        yield Choice("dataloader_num_workers", loaders, reason)
    if loaders and "dataloader_persistent_workers" not in training:
        yield Choice("dataloader_persistent_workers", True, "loading processes need not start anew with every epoch")


def hasten(config: Trained, scaling: ScalingConfig) -> tuple[Trained, list[str]]:
    """Return a config with what ``fast: true`` chooses for a cluster, and what it chose and why; Ray is connected.

    Args:
        config: as it was written.
        scaling: the run's workers.
    """
    if not config.fast:
        return config, []
    accelerated = bool(scaling.use_gpu or scaling.use_tpu)
    nodes: list[Resources] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    chosen = list(choices(config.training, accelerated, cores_of_each(scaling, nodes)))
    training = {**config.training, **{choice.name: choice.value for choice in chosen}}
    said = [str(choice) for choice in chosen] or [_NOTHING]
    return config.model_copy(update={"training": training}), said


def settled(planned: Plan) -> tuple[Plan, list[str]]:
    """Return a plan with what follows from the cluster, and what ``fast: true`` chose and why; Ray is connected.

    Args:
        planned: what a config comes to by itself.
    """
    scaling = with_workers(planned.scaling, planned.config.scaling)
    config, chosen = hasten(planned.config, scaling)
    arguments = training_arguments(config, planned.folder) if chosen else planned.arguments
    return replace(planned, config=config, arguments=arguments, scaling=scaling), chosen


def cores_of_each(scaling: ScalingConfig, nodes: list[Resources]) -> float | None:
    """Return the cores that each worker has on the node with least; None where none has room for one.

    Args:
        scaling: the run's workers; a node is taken to have as many as fit, or all of them where that is fewer.
        nodes: what each has.
    """
    asked, most = worker_resources(scaling), scaling.max_workers
    shares = [node.get("CPU", 0.0) / min(slots, most) for node in nodes if (slots := slots_of(node, asked)) >= 1]
    return min(shares, default=None)

"""What a run is asked to do: one call of a trainer's method on a group of workers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

import ray
from ray.train.v2.api.config import LoggingConfig, RunConfig, ScalingConfig

from raytrainer import shipping
from raytrainer.deepspeed_config import Asked, config_problems
from raytrainer.early import Preparation
from raytrainer.elastic import batch_problems, global_batch, group_sizes
from raytrainer.errors import ArgumentsError
from raytrainer.events import Evaluated
from raytrainer.keeping import has_storage
from raytrainer.order import Finish, Order, TrainerFactory
from raytrainer.ray_train import watches_preemptions
from raytrainer.resuming import Recovery
from raytrainer.sinks import Sink
from raytrainer.weights import Weights
from raytrainer.wire import Verdict
from raytrainer.worker import train_loop

# What reaches the workers of the driver's environment, beside what the cluster gives them.
TRAVELLING_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_VERBOSITY", "TOKENIZERS_PARALLELISM", "HF_DATASETS_OFFLINE")

# The same where a run is recorded in MLflow: what the user's code on the workers may want of it.
OF_MLFLOW = ["MLFLOW_*"]


@dataclass(frozen=True)
class Job:
    """One call of a trainer's method on a group of workers.

    Args:
        factory: makes the trainer on each worker.
        arguments: class of the training arguments and the values their constructor is given.
        attributes: what the user's program set on the arguments beside their fields, packed.
        action: ``train``, ``evaluate``, ``predict``, or ``inspect`` for nothing but ``finish``.
        call: positional and keyword arguments of the method, packed.
        scaling: Ray Train's scaling configuration; None for one worker a GPU of the cluster, else one CPU worker.
        run: Ray Train's run configuration.
        state: fields of the TrainerState to start from.
        weights: weights to load into the model that the factory made.
        precision: ``auto``, ``bf16``, ``fp16``, ``fp32``, or None for what the arguments say.
        loss_scale: ``auto`` or ``transformers``.
        global_train_batch_size: examples of an optimizer step over all workers; None for what the arguments say.
        recovery: how a training keeps its checkpoints; None for an evaluation or a prediction.
        finish: what the workers do after the call; None to send the trained weights and settings home instead.
        sinks: who is told what happens, on the driver.
        judge: says what a trial of a sweep does after each evaluation; None for a run of its own.
        travelling: names of more variables that the workers get of this environment; ``X_*`` for all that begin so.
        system_metrics: whether MLflow's monitors watch the nodes.
        stays: whether the workers stay for a while, because the program may have more for them.
    """

    factory: TrainerFactory
    arguments: tuple[type[Any], dict[str, Any]]
    attributes: shipping.Parcel
    action: str
    call: shipping.Parcel
    scaling: ScalingConfig | None
    run: RunConfig
    state: dict[str, Any] | None = None
    weights: Weights | None = None
    precision: str | None = None
    loss_scale: str = "auto"
    global_train_batch_size: int | None = None
    recovery: Recovery | None = None
    finish: Finish | None = None
    sinks: list[Sink] = field(default_factory=list)
    judge: Callable[[Evaluated], Verdict] | None = None
    travelling: Sequence[str] = ()
    system_metrics: bool = False
    stays: bool = False

    @property
    def loop(self) -> Callable[[dict[str, Any]], None]:
        """What Ray Train runs on every worker."""
        return train_loop

    @property
    def preparation(self) -> Preparation:
        """What every worker does before anything else."""
        return Preparation(travelling_variables(self.travelling))

    @property
    def recoverable(self) -> bool:
        """Whether it is a training, which keeps checkpoints and goes on from them."""
        return self.recovery is not None

    def sizes(self, scaling: ScalingConfig) -> list[int]:
        """Return the numbers of workers that the group may have, the smallest first.

        Raises:
            ArgumentsError: batch, workers and DeepSpeed's configuration contradict each other.
        """
        arguments = self.arguments[1]
        if problems := list(batch_problems(self.global_train_batch_size, scaling, arguments)):
            raise ArgumentsError(*problems)
        examples = global_batch(self.global_train_batch_size, scaling, arguments)
        asked = Asked(arguments, self.precision, scaling.max_workers, examples)
        if problems := list(config_problems(arguments["deepspeed"], asked)):
            raise ArgumentsError(*problems)
        return group_sizes(examples, scaling, arguments)

    def order(self, scaling: ScalingConfig) -> Order:
        """Return what every rank is told."""
        recovery = self.recovery and dataclasses.replace(self.recovery, preemptions=watches_preemptions(scaling))
        return Order(
            factory=self.factory,
            arguments=self.arguments,
            attributes=self.attributes,
            action=self.action,
            call=self.call,
            state=self.state,
            weights=ray.put(dict(self.weights)) if self.weights is not None else None,
            precision=self.precision,
            loss_scale=self.loss_scale,
            use_cpu=not scaling.use_gpu and not scaling.use_tpu,
            use_tpu=bool(scaling.use_tpu),
            directory=os.getcwd(),
            environment=travelling_variables(self.travelling),
            system_metrics=self.system_metrics,
            global_train_batch_size=global_batch(self.global_train_batch_size, scaling, self.arguments[1]),
            recovery=recovery,
            finish=self.finish,
        )


class Work(Protocol):
    """What :func:`fit` runs: a :class:`Job`, or anything else that comes with a function for the workers.

    Its attributes are those of :class:`Job`; what its ``order`` returns pickles and is what ``loop`` reads.
    """

    @property
    def scaling(self) -> ScalingConfig | None: ...
    @property
    def run(self) -> RunConfig: ...
    @property
    def sinks(self) -> list[Sink]: ...
    @property
    def judge(self) -> Callable[[Evaluated], Verdict] | None: ...
    @property
    def loop(self) -> Callable[[dict[str, Any]], None]: ...
    @property
    def recoverable(self) -> bool: ...
    @property
    def stays(self) -> bool: ...
    @property
    def preparation(self) -> Preparation: ...
    def sizes(self, scaling: ScalingConfig) -> list[int]: ...
    def order(self, scaling: ScalingConfig) -> object: ...


def travelling_variables(names: Sequence[str] = ()) -> dict[str, str]:
    """Return what the workers get of the driver's environment.

    Args:
        names: more names than TRAVELLING_VARIABLES; ``X_*`` for all that begin so.
    """
    allowed = (*TRAVELLING_VARIABLES, *names)
    return {name: value for name, value in os.environ.items() if any(fnmatchcase(name, each) for each in allowed)}


def ray_run(given: RunConfig | None, folder: str) -> RunConfig:
    """Return Ray Train's run configuration of a call.

    Args:
        given: the user's; None for one that shows the warnings of what Ray Train logs.
        folder: for what Ray Train writes, where the user chose no storage: its own is in the home folder.
    """
    if given is None:
        return RunConfig(storage_path=folder, logging_config=LoggingConfig(log_level="WARNING"))
    return given if has_storage(given) else dataclasses.replace(given, storage_path=folder)

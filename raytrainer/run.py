"""fit(job): the one place where a job becomes a Ray Train run."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import ray
from ray import cloudpickle
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.config import RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from raytrainer import cluster, shipping
from raytrainer.backend import ProcessGroupConfig
from raytrainer.errors import TrainingFailed, WorkerTraceback
from raytrainer.events import Event, Phase
from raytrainer.precision import Precision
from raytrainer.relay import Listener, Relay
from raytrainer.sinks import Sink
from raytrainer.weights import Weight
from raytrainer.worker import Order, Result, TrainerFactory, train_loop

# Ray Train's own settings, unless the user set them.
RAY_TRAIN_SETTINGS = {
    # It looks at its workers every 2 s by default, and a report stands still until then.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    # It moves workers into a folder of its own, where the user's relative paths mean nothing.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # It replaces print, and whoever redirects sys.stdout gets nothing: dill does, where datasets makes fingerprints.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
}

# What reaches the workers of the driver's environment, beside what the cluster gives them.
TRAVELLING_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_VERBOSITY", "TOKENIZERS_PARALLELISM", "HF_DATASETS_OFFLINE")


@dataclass(frozen=True)
class Job:
    """One call of a trainer's method on a group of workers.

    Args:
        factory: makes the trainer on each worker.
        arguments: class of the training arguments and the values their constructor is given.
        action: ``train``, ``evaluate`` or ``predict``.
        call: positional and keyword arguments of the method, packed.
        scaling: Ray Train's scaling configuration; None for one worker a GPU of the cluster, else one CPU worker.
        run: Ray Train's run configuration.
        state: fields of the TrainerState to start from.
        weights: weights to load into the model that the factory made.
        precision: ``auto``, ``bf16``, ``fp16``, ``fp32``, or None for what the arguments say.
        loss_scale: ``auto`` or ``transformers``.
        sinks: who is told what happens, on the driver.
    """

    factory: TrainerFactory
    arguments: tuple[type[Any], dict[str, Any]]
    action: str
    call: shipping.Parcel
    scaling: ScalingConfig | None
    run: RunConfig
    state: dict[str, Any] | None = None
    weights: Mapping[str, Weight] | None = None
    precision: str | None = None
    loss_scale: str = "auto"
    sinks: list[Sink] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What a job brought.

    Args:
        value: what the trainer's method returned.
        state: fields of the TrainerState, None where the action has none.
        weights: trained weights, None where nothing was trained.
        callbacks: class and attributes (pickled) of the callbacks, in order.
        precision: what was computed in, and why.
        phases: seconds by phase, from the call to the end.
    """

    value: Any
    state: dict[str, Any] | None
    weights: dict[str, Weight] | None
    callbacks: list[tuple[type, dict[str, bytes]]]
    precision: Precision
    phases: dict[str, float]


def fit(job: Job) -> Outcome:
    """Run a job on Ray Train workers and wait for it.

    Args:
        job: what to run.

    Returns:
        What it brought.

    Raises:
        UserError: a mistake that was found before the first step.
        TrainingFailed: a worker died, or Ray Train gave up.
        KeyboardInterrupt: after Ctrl-C, when the workers are stopped.
        Exception: what the user's code raised on a worker, as itself, with a WorkerTraceback as its cause.
    """
    timer = _Timer()
    sinks: list[Sink] = [timer, *job.sinks]
    try:
        outcome = _fit(job, timer, sinks)
    except BaseException as error:
        _close(sinks, error)
        raise
    _close(sinks, None)
    return outcome


def _fit(job: Job, timer: _Timer, sinks: list[Sink]) -> Outcome:
    scaling = job.scaling or cluster.default_scaling()
    cluster.check_supply(scaling)
    relay = Relay.options(label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()}).remote()  # type: ignore[attr-defined]  # ray.remote's classes carry no types
    try:
        with Listener(relay, sinks) as listener, _ray_train_settings(), _own_interrupts():
            timer.start()
            _ray_trainer(job, scaling, relay).fit()
    except TrainingFailedError as failure:
        _raise_as_itself(failure)
    except SystemExit:
        # How Ray Train ends a program after Ctrl-C.
        raise KeyboardInterrupt from None
    finally:
        ray.kill(relay)
    result: Result = listener.result
    if result.error is not None:
        raise result.error
    assert result.precision is not None
    return Outcome(result.value, result.state, result.weights, result.callbacks, result.precision, timer.phases())


def _ray_trainer(job: Job, scaling: ScalingConfig, relay: Any) -> Any:
    order = Order(
        factory=job.factory,
        arguments=job.arguments,
        action=job.action,
        call=job.call,
        state=job.state,
        weights=ray.put(dict(job.weights)) if job.weights is not None else None,
        precision=job.precision,
        loss_scale=job.loss_scale,
        use_cpu=not scaling.use_gpu and not scaling.use_tpu,
        use_tpu=bool(scaling.use_tpu),
        directory=os.getcwd(),
        environment={name: os.environ[name] for name in TRAVELLING_VARIABLES if name in os.environ},
    )
    # As bytes: reading the order imports transformers and the user's code, and the worker wants to time that. By
    # reference: Ray Train hands this configuration to each of its own actors.
    path = [os.path.abspath(folder) for folder in sys.path]
    config = {"order": ray.put(cloudpickle.dumps(order)), "relay": relay, "path": path}
    group = ProcessGroupConfig("tpu_dist" if scaling.use_tpu else "nccl" if scaling.use_gpu else "gloo")
    return _RayTrainer(
        train_loop,
        train_loop_config=config,
        backend_config=group,
        scaling_config=scaling,
        run_config=cast("Any", job.run),
    )


class _RayTrainer(DataParallelTrainer):
    """Ray Train's trainer without the helper actor that asks the dashboard, where no dashboard answers."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        if ray._private.worker.get_dashboard_url():
            return callbacks
        return [callback for callback in callbacks if not isinstance(callback, PlacementGroupCleanerCallback)]


@contextlib.contextmanager
def _ray_train_settings() -> Iterator[None]:
    settings = dict(RAY_TRAIN_SETTINGS)
    if len(ray.nodes()) == 1:
        # It waits for notice that a node goes away, and with the only node the controller goes away too.
        settings["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _own_interrupts() -> Iterator[None]:
    """Give Ctrl-C back to the program when the run is over: Ray Train takes it and never returns it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _raise_as_itself(failure: TrainingFailedError) -> None:
    """Raise what the user's code raised, with the worker's traceback as its cause."""
    if not isinstance(failure, WorkerGroupError) or not failure.worker_failures:
        raise TrainingFailed(str(failure)) from failure
    rank, error = min(failure.worker_failures.items(), key=lambda item: (_is_echo(item[1]), item[0]))
    error = getattr(error, "_base_exc", error)
    if isinstance(error, ray.exceptions.RayError):
        raise TrainingFailed(f"the worker of rank {rank} is gone: {error}") from failure
    text = error.__dict__.pop("_raytrainer_traceback", None) or str(failure)
    raise error from WorkerTraceback(rank, text)


def _is_echo(error: BaseException) -> bool:
    """Tell whether a rank failed only because another one did: its peer was gone in a collective."""
    text = str(getattr(error, "_base_exc", error)).lower()
    return any(sign in text for sign in ("connection closed by peer", "connection reset by peer", "nccl", "gloo"))


def _close(sinks: list[Sink], error: BaseException | None) -> None:
    for sink in sinks:
        sink.close(error)


class _Timer:
    """Driver: what each phase took. A sink."""

    def __init__(self) -> None:
        self._phases: dict[str, float] = {}
        self._began = self._started = time.monotonic()

    def start(self) -> None:
        self._started = time.monotonic()

    def handle(self, event: Event) -> None:
        if isinstance(event, Phase):
            if not self._phases:
                self._phases["workers"] = time.monotonic() - self._started - event.seconds
            self._phases[event.name] = event.seconds

    def close(self, error: BaseException | None) -> None:
        pass

    def phases(self) -> dict[str, float]:
        return {**self._phases, "total": time.monotonic() - self._began}

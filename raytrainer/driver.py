"""What a trainer is on the driver: a recording, that builds the transformers object on the CPU only when asked."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
from collections.abc import Iterator
from typing import Any

from ray.train import RunConfig, ScalingConfig
from ray.train.v2._internal.constants import VALIDATE_STORAGE_MARKER_FILENAME
from ray.train.v2.api import config as ray_config
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer import DEFAULT_CALLBACKS, DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_callback import CallbackHandler, PrinterCallback

from raytrainer import checks, cluster, shipping
from raytrainer.arguments import RayTrainingArguments, field_values, on_this_machine, rebuild
from raytrainer.precision import Precision
from raytrainer.progress import Progress
from raytrainer.recording import Recording
from raytrainer.run import Job, Outcome, fit
from raytrainer.sinks import Sink
from raytrainer.tracking import Tracker, open_tracker, tracking_target, ui_command
from raytrainer.weights import fits, load_weights
from raytrainer.where import here

# How the trainer that is built on the driver differs: on the CPU, alone, telling nobody.
_ON_THE_DRIVER: dict[str, Any] = {
    "use_cpu": True,
    "fp16": False,
    "fp16_full_eval": False,
    "tf32": None,
    "deepspeed": None,
    "fsdp": None,
    "torch_compile": False,
    "torch_compile_backend": None,
    "torch_compile_mode": None,
    "report_to": [],
}

_DOING = {"train": "training", "evaluate": "evaluation", "predict": "prediction"}

# Set by transformers' own methods while they run, so setting them is no wish for the workers.
_STATE_OF_A_RUN = frozenset({"args", "state", "control", "is_in_train", "callback_handler"})


class DriverSide:
    """Mixin for the driver's objects of a trainer class.

    ``train``, ``evaluate`` and ``predict`` run on the cluster. Any other attribute of the class that the recording
    does not have builds the real trainer here, on the CPU, with the weights that training brought.

    Attributes:
        precision: what the last job computed in, and why; None before it.
        phases: seconds by phase of the last job; empty before it.
        mlflow_command: the command that shows the MLflow run, or its page; None without MLflow.
    """

    precision: Precision | None
    phases: dict[str, float]
    mlflow_command: str | None

    @classmethod
    def record(
        cls,
        kind: type[Trainer],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        precision: str | None = None,
        loss_scale: str = "auto",
    ) -> DriverSide:
        """Make the driver's object for a constructor call; the constructor itself is not run.

        Args:
            kind: the class that was called.
            args: positional arguments of the call.
            kwargs: keyword arguments of the call, without RayTrainer's own.
            scaling_config: see RayTrainer.
            run_config: see RayTrainer.
            precision: see RayTrainer.
            loss_scale: see RayTrainer.

        Returns:
            The object.

        Raises:
            UserError: something passed is wrong.
        """
        bound = checks.bind(kind, args, kwargs)
        arguments = checks.arguments(kind, bound)
        if arguments is None:
            arguments = RayTrainingArguments(output_dir="tmp_trainer")
            kwargs = {**kwargs, "args": arguments}
        checks.own(scaling_config, run_config, precision, loss_scale, arguments)
        checks.constructor(kind, bound, arguments)
        self = cls.__new__(cls)
        vars(self).update({name: value for name, value in bound.items() if name != "model"})
        vars(self).update(
            _kind=kind,
            _call=(args, kwargs),
            _recorded_arguments=arguments,
            _assigned={},
            _operations=[],
            _building=False,
            _built=False,
            _weights=None,
            _mlflow_run=None,
            _shipper=shipping.Shipper(),
            _scaling=scaling_config,
            _run=run_config,
            _asked=(precision, loss_scale),
            args=arguments,
            state=TrainerState(),
            control=TrainerControl(),
            is_in_train=False,
            precision=None,
            phases={},
            mlflow_command=None,
        )
        if bound.get("model") is not None and not isinstance(bound["model"], str):
            vars(self)["model"] = bound["model"]
        return self

    # What a script does to the object before and between the runs.

    def __setattr__(self, name: str, value: Any) -> None:
        vars(self)[name] = value
        if not self._building and not name.startswith("_") and name not in _STATE_OF_A_RUN:
            self._assigned[name] = value

    def __getattr__(self, name: str) -> Any:
        # IPython and pickle ask every object for names like these; no trainer has them.
        if name.startswith(("__", "_repr_", "_ipython_")) or self._built or self._building:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name == "callback_handler":
            vars(self)[name] = self._callback_handler()
        else:
            self._build()
        return getattr(self, name)

    def add_callback(self, callback: type[TrainerCallback] | TrainerCallback) -> None:
        self._change_callbacks("add_callback", callback)

    def remove_callback(self, callback: type[TrainerCallback] | TrainerCallback) -> None:
        self._change_callbacks("remove_callback", callback)

    def pop_callback(self, callback: type[TrainerCallback] | TrainerCallback) -> TrainerCallback | None:
        popped: TrainerCallback | None = self._change_callbacks("pop_callback", callback)
        return popped

    # What runs on the cluster.

    def train(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = checks.train_call(self, args, kwargs)
        return self._on_cluster("train", args, kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        checks.evaluate_call(self, args, kwargs)
        return self._on_cluster("evaluate", args, kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        return self._on_cluster("predict", args, kwargs)

    def hyperparameter_search(self, *args: Any, **kwargs: Any) -> Any:
        checks.no_search_yet()

    def _on_cluster(self, action: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        cluster.connect(cluster.cpus(self._scaling))
        job = self._job(action, args, kwargs)
        tracker = self._open_tracker(action)
        sinks: list[Sink] = [*([tracker] if tracker else []), Progress(description=_DOING[action])]
        try:
            outcome = fit(dataclasses.replace(job, sinks=sinks))
        finally:
            if self._run is None:
                _sweep(str(job.run.storage_path), str(job.run.name))
        self._take_home(outcome, trained=action == "train")
        return outcome.value

    def _open_tracker(self, action: str) -> Tracker | None:
        """Open an MLflow run for a training; what is evaluated afterwards goes on with the same one."""
        target = tracking_target(self.args, os.environ, os.getcwd())
        if target is None or action == "predict":
            return None
        if action == "evaluate" and target.run_id is None:
            target = dataclasses.replace(target, run_id=self._mlflow_run)
        tracker = open_tracker(target)
        vars(self).update(_mlflow_run=tracker.run_id, mlflow_command=ui_command(tracker))
        return tracker

    def _job(self, action: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        precision, loss_scale = self._asked
        values = {**field_values(self.args), "output_dir": on_this_machine(self.args.output_dir)}
        train = action == "train"
        return Job(
            factory=Recording(self._kind, self._pack_constructor()),
            arguments=(type(self.args), values),
            action=action,
            call=self._pack((args, kwargs), {"the call's arguments": (args, kwargs)}),
            scaling=self._scaling,
            run=self._run or _default_run(values["output_dir"]),
            state=None if train else dataclasses.asdict(self.state),
            weights=self._weights,
            precision=precision,
            loss_scale=loss_scale,
        )

    def _pack_constructor(self) -> shipping.Parcel:
        args, kwargs = self._call
        parts = {**checks.bind(self._kind, args, kwargs), **self._assigned}
        parts |= {f"{operation}()": callback for operation, callback in self._operations}
        return self._pack((args, kwargs, self._assigned, self._operations), parts)

    def _pack(self, thing: object, parts: dict[str, object]) -> shipping.Parcel:
        try:
            parcel: shipping.Parcel = self._shipper.pack(thing, self._stand_in)
        except Exception as failure:
            raise shipping.explain(failure, parts, self._stand_in) from failure
        return parcel

    def _stand_in(self, obj: object) -> str | None:
        """Name what does not travel, because each worker has its own."""
        if obj is self:
            return "trainer"
        return "arguments" if obj is self.args or obj is self._recorded_arguments else None

    def _take_home(self, outcome: Outcome, trained: bool) -> None:
        vars(self).update(precision=outcome.precision, phases=outcome.phases)
        if outcome.state is not None:
            vars(self)["state"] = TrainerState(**outcome.state)
        _restore_callbacks(self.callback_handler.callbacks, outcome.callbacks)
        if trained and outcome.weights is not None:
            vars(self)["_weights"] = outcome.weights
            self._load_trained()

    def _load_trained(self) -> None:
        model = vars(self).get("model")
        if self._weights is None or model is None:
            return
        if fits(model, self._weights):
            load_weights(model, self._weights)
            # An object passed in carries its weights from now on; what the factory makes does not.
            if model is checks.bind(self._kind, *self._call).get("model"):
                vars(self)["_weights"] = None
        elif not self._built:
            # The constructor wraps the model (adapters, a head): only what it builds can hold these weights.
            del vars(self)["model"]

    # The transformers object.

    def _build(self) -> None:
        """Run the constructor here, on the CPU, and load what training brought."""
        kept = {name: vars(self)[name] for name in _STATE_OF_A_RUN if name in vars(self)}
        args, kwargs = self._call
        self._building = True
        try:
            with here(), _cpu_only():
                local = rebuild(type(self.args), field_values(self.args), **_ON_THE_DRIVER)
                self._kind.__init__(
                    self,
                    *(local if value is self._recorded_arguments else value for value in args),
                    **{n: local if value is self._recorded_arguments else value for n, value in kwargs.items()},
                )
            if "callback_handler" in kept:
                self.callback_handler.callbacks = kept.pop("callback_handler").callbacks
            vars(self).update(kept)
            for name, value in self._assigned.items():
                vars(self)[name] = value
            self._built = True
            self._load_trained()
        finally:
            self._building = False

    def _callback_handler(self) -> CallbackHandler:
        """Return a handler with the callbacks that the constructor would make, without a model."""
        last = PrinterCallback if self.args.disable_tqdm else DEFAULT_PROGRESS_CALLBACK
        recorded = vars(self).get("callbacks") or []
        return CallbackHandler(
            [*DEFAULT_CALLBACKS, *recorded, last], None, vars(self).get("processing_class"), None, None
        )

    def _change_callbacks(self, operation: str, callback: Any) -> Any:
        if not self._building:
            self._operations.append((operation, callback))
        return getattr(self.callback_handler, operation)(callback)


def _default_run(output_dir: str) -> ray_config.RunConfig:
    """Keep what Ray Train writes beside what the trainer writes; of what it logs, the warnings."""
    logging = ray_config.LoggingConfig(log_level="WARNING")
    return ray_config.RunConfig(storage_path=os.path.join(output_dir, "ray"), logging_config=logging)


def _sweep(storage: str, name: str) -> None:
    """Remove the folders that Ray Train made for this run, where there is nothing in them but its marker."""
    with contextlib.suppress(OSError):  # there is something in it, or it is not on this machine
        os.remove(os.path.join(storage, name, VALIDATE_STORAGE_MARKER_FILENAME))
        os.rmdir(os.path.join(storage, name))
        os.rmdir(storage)


def _restore_callbacks(here_now: list[TrainerCallback], returned: list[tuple[type, dict[str, bytes]]]) -> None:
    """Give each callback of the driver what the one of the same class and place knew on rank 0."""
    waiting = list(returned)
    for callback in here_now:
        match = next((pair for pair in waiting if pair[0] is type(callback)), None)
        if match is not None:
            waiting.remove(match)
            for name, value in match[1].items():
                setattr(callback, name, pickle.loads(value))  # from a worker's memory, never from storage


@contextlib.contextmanager
def _cpu_only() -> Iterator[None]:
    """Keep accelerate off the driver's GPU, if it has one."""
    before = os.environ.get("ACCELERATE_USE_CPU")
    os.environ["ACCELERATE_USE_CPU"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["ACCELERATE_USE_CPU"]
        else:
            os.environ["ACCELERATE_USE_CPU"] = before

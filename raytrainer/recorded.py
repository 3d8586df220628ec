"""A trainer on the driver: its constructor call, and the transformers object, built on the CPU only when asked for."""

from __future__ import annotations

import pickle
import sys
from typing import Any, TypeVar, cast

from ray.train import RunConfig, ScalingConfig
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer import DEFAULT_CALLBACKS, DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_callback import CallbackHandler, PrinterCallback

from raytrainer import checks, shipping
from raytrainer.arguments import RayTrainingArguments, field_values, rebuild
from raytrainer.environment import environment
from raytrainer.errors import Problem, Seen, ShippingError
from raytrainer.order import Schedule
from raytrainer.weights import Weights, differences, load_weights
from raytrainer.where import here

# How the trainer that is built on the driver differs: on the CPU, alone, telling nobody.
_ON_THE_DRIVER: dict[str, Any] = {
    "use_cpu": True,
    "fp16": False,
    "fp16_full_eval": False,
    "tf32": None,
    "deepspeed": None,
    "fsdp": None,
    "parallelism_config": None,
    "torch_compile": False,
    "torch_compile_backend": None,
    "torch_compile_mode": None,
    "report_to": [],
}

# What a run begins with and ends with; kept when the transformers object is built.
_STATE_OF_A_RUN = frozenset({"args", "state", "control", "is_in_train", "callback_handler"})

# What a training makes; made here when it is asked for, because its packages may be where the workers are alone.
_MADE_BY_TRAINING = ("optimizer", "lr_scheduler")

Self = TypeVar("Self", bound="Recorded")


class Recorded:
    """Mixin for the driver's objects of a trainer class: what was passed and set, without running the constructor.

    Any attribute of the class that the recording does not have builds the real trainer here, on the CPU, with the
    weights that training brought.
    """

    @classmethod
    def record(
        cls: type[Self],
        kind: type[Trainer],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        scaling_config: ScalingConfig | None = None,
        run_config: RunConfig | None = None,
        precision: str | None = None,
        loss_scale: str = "auto",
        global_train_batch_size: int | None = None,
        allow_changes: bool = False,
    ) -> Self:
        """Make the driver's object for a constructor call; the constructor itself is not run.

        Args:
            kind: the class that was called.
            args: positional arguments of the call.
            kwargs: keyword arguments of the call, without RayTrainer's own.
            scaling_config: see RayTrainer.
            run_config: see RayTrainer.
            precision: see RayTrainer.
            loss_scale: see RayTrainer.
            global_train_batch_size: see RayTrainer.
            allow_changes: see RayTrainer.

        Returns:
            The object.

        Raises:
            UserError: something passed is wrong.
        """
        bound = checks.bind(kind, args, kwargs)
        arguments = checks.arguments(kind, bound)
        if arguments is None:
            arguments = RayTrainingArguments(output_dir="tmp_trainer")
            # All by name: the call may have None where the arguments stand.
            args, kwargs = (), {**bound, "args": arguments}
        checks.own(scaling_config, run_config, precision, loss_scale, global_train_batch_size, arguments)
        checks.constructor(kind, bound, arguments)
        self = cls.__new__(cls)
        if not checks.constructor_of_its_own(kind):
            vars(self).update({name: value for name, value in bound.items() if name != "model"})
        vars(self).update(
            _kind=kind,
            _call=(args, kwargs),
            _bound=bound,
            _recorded_arguments=arguments,
            _assigned={},
            _operations=[],
            _building=False,
            _built=False,
            _weights=None,
            _schedule=None,
            _settings=None,
            _mlflow_run=None,
            _shipper=shipping.Shipper(),
            _scaling=scaling_config,
            _run=run_config,
            _asked=(precision, loss_scale, global_train_batch_size),
            _allow_changes=allow_changes,
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

    def __setattr__(self, name: str, value: Any) -> None:
        vars(self)[name] = value
        # What transformers' own methods set while they run is no wish for the workers.
        by_the_user = sys._getframe(1).f_globals.get("__name__", "").split(".")[0] != "transformers"
        if by_the_user and not self._building and not name.startswith("_") and name not in _STATE_OF_A_RUN:
            self._assigned[name] = value

    def __getattr__(self, name: str) -> Any:
        # IPython and pickle ask every object for names like these; no trainer has them.
        trained = name in _MADE_BY_TRAINING and self._schedule is not None
        if name.startswith(("__", "_repr_", "_ipython_")) or (self._built and not trained) or self._building:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name == "callback_handler":
            vars(self)[name] = self._callback_handler()
        elif self._built:
            self._make_optimizer()
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

    def _change_callbacks(self, operation: str, callback: Any) -> Any:
        if not self._building:
            self._operations.append((operation, callback))
        return getattr(self.callback_handler, operation)(callback)

    def _callback_handler(self) -> CallbackHandler:
        """Return a handler with the callbacks that the constructor would make, without a model."""
        last = PrinterCallback if self.args.disable_tqdm else DEFAULT_PROGRESS_CALLBACK
        recorded = self._bound.get("callbacks") or []
        tokenizer = self._bound.get("processing_class")
        return CallbackHandler([*DEFAULT_CALLBACKS, *recorded, last], None, tokenizer, None, None)

    def _build(self) -> None:
        """Run the constructor here, on the CPU, and load what training brought."""
        kept = {name: vars(self)[name] for name in _STATE_OF_A_RUN if name in vars(self)}
        args, kwargs = self._call
        self._building = True
        try:
            # ACCELERATE_USE_CPU keeps accelerate off the driver's GPU, if it has one.
            with here(), environment({"ACCELERATE_USE_CPU": "true"}):
                local = rebuild(type(self.args), field_values(self.args), **_ON_THE_DRIVER)
                self._kind.__init__(
                    self,
                    *(local if value is self._recorded_arguments else value for value in args),
                    **{n: local if value is self._recorded_arguments else value for n, value in kwargs.items()},
                )
            if "callback_handler" in kept:
                self.callback_handler.callbacks = kept.pop("callback_handler").callbacks
            vars(self).update(kept)
            vars(self).update(self._assigned)
            self._built = True
            if different := self._load_trained():
                raise ShippingError(
                    Problem(
                        "model",
                        Seen("; ".join(different[:3])),
                        "the model that the constructor makes here cannot hold the trained weights",
                        f"load a checkpoint of {self.args.output_dir}, or change the model before it is passed, not on"
                        " the workers",
                    )
                )
            self._load_schedule()
        finally:
            self._building = False

    def _keep_weights(self, weights: Weights) -> None:
        vars(self)["_weights"] = weights
        self._load_trained()

    def _keep_schedule(self, schedule: Schedule) -> None:
        vars(self)["_schedule"] = schedule
        if self._built:
            self._load_schedule()

    def _make_optimizer(self) -> None:
        vars(self).update(dict.fromkeys(_MADE_BY_TRAINING), _building=True)
        try:
            Trainer.create_optimizer_and_scheduler(cast("Trainer", self), self.state.max_steps)
        finally:
            vars(self)["_building"] = False
            self._load_schedule()

    def _load_schedule(self) -> None:
        """Give optimizer and scheduler the hyperparameters that the training ended with; its momenta stay behind."""
        if self._schedule is None:
            return
        if vars(self).get("optimizer") is None:
            for name in _MADE_BY_TRAINING:
                vars(self).pop(name, None)  # __getattr__ has them made
            return
        for group, trained in zip(self.optimizer.param_groups, self._schedule.groups, strict=False):
            group.update(trained)
        if self.lr_scheduler is not None:
            self.lr_scheduler.load_state_dict(self._schedule.scheduler)

    def _load_trained(self) -> list[str]:
        """Copy the trained weights into the model, where there is one; return what keeps it from holding them."""
        model = vars(self).get("model")
        if self._weights is None or model is None:
            return []
        if different := differences(model, self._weights):
            # The constructor wraps the model (adapters, a head): only what it builds can hold these weights.
            del vars(self)["model"]
            vars(self)["_built"] = False
            return different
        load_weights(model, self._weights)
        self._load_settings(model)
        # An object passed in carries its weights from now on; what the constructor makes does not.
        if model is self._bound.get("model"):
            vars(self)["_weights"] = None
        return []

    def _load_settings(self, model: Any) -> None:
        settings = self._settings
        model.train(settings.training)
        for name in ("config", "generation_config"):
            config = getattr(model, name, None)
            if config is not None:
                changed = {k: v for k, v in getattr(settings, name).items() if vars(config).get(k) != v}
                vars(config).update(changed)

    def _restore_callbacks(self, returned: list[tuple[type, dict[str, bytes]]]) -> None:
        """Give each callback of the driver what the one of the same class and place knew on rank 0."""
        waiting = list(returned)
        for callback in self.callback_handler.callbacks:
            match = next((pair for pair in waiting if pair[0] is type(callback)), None)
            if match is not None:
                waiting.remove(match)
                for name, value in match[1].items():
                    setattr(callback, name, pickle.loads(value))  # from a worker's memory, never from storage

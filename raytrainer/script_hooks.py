"""How a script's Trainer, which knows nothing of Ray, reports to it, saves and resumes."""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

from raytrainer.errors import Problem, ResourcesError
from raytrainer.events import Ended
from raytrainer.outbox import Outbox
from raytrainer.ranks import gather, limit_waiting
from raytrainer.script_imports import after_import
from raytrainer.script_order import ScriptOrder
from raytrainer.script_storage import Places
from raytrainer.wire import Wire

# What a training sets on its trainer; the next one of the same trainer begins without it.
_OF_A_TRAINING = (
    *("_save_checkpoint", "_load_best_model", "_get_output_dir", "_finalize_training"),
    *("get_train_dataloader", "_load_rng_state", "_run_epoch"),
)


class Hooks:
    """Worker, every rank: changes transformers' Trainer and TrainingArguments for this process, as they are imported.

    Args:
        order: the script's.
        world_size: number of workers.
        places: where checkpoints go.
        wire: to the driver.
        outbox: the way to the driver.

    Attributes:
        stopped: the step at which a training saved and stopped because the user asked for it; None where none did.
    """

    def __init__(self, order: ScriptOrder, world_size: int, places: Places, wire: Wire, outbox: Outbox) -> None:
        self.stopped: int | None = None
        self._order, self._world_size, self._places = order, world_size, places
        self._wire, self._outbox = wire, outbox
        self._trainings = 0
        self._inspected: weakref.WeakSet[Any] = weakref.WeakSet()

    def install(self) -> None:
        """Change the classes when the script imports them: what it sets before its imports keeps its effect."""
        after_import("transformers.training_args", self._change_arguments)
        after_import("transformers.trainer", self._change_trainer)

    def _change_arguments(self, module: ModuleType) -> None:
        kind = module.TrainingArguments
        post_init = kind.__post_init__

        @functools.wraps(post_init)
        def __post_init__(arguments: Any) -> None:
            # A signal, which transformers' own needs, reaches no thread; and the storage has every machine's.
            arguments.enable_jit_checkpoint = arguments.save_on_each_node = False
            post_init(arguments)
            limit_waiting(arguments.ddp_timeout)
            # The driver writes to MLflow.
            arguments.report_to = [name for name in arguments.report_to if name != "mlflow"]
            # It writes its arguments beside every model; without a token the hub's library asks for this one.
            if arguments.hub_token:
                os.environ["HF_TOKEN"], arguments.hub_token = arguments.hub_token, None
            self._places.note(arguments.output_dir)

        kind.__post_init__ = __post_init__

    def _change_trainer(self, module: ModuleType) -> None:
        kind = module.Trainer
        init, train, evaluate, predict = kind.__init__, kind.train, kind.evaluate, kind.predict

        @functools.wraps(init)
        def __init__(trainer: Any, *args: Any, **kwargs: Any) -> None:
            init(trainer, *args, **kwargs)
            self._attach(trainer)

        @functools.wraps(train)
        def _train(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            return self._train(trainer, train.__get__(trainer), args, kwargs)

        def inspected_before(method: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(method)
            def call(trainer: Any, *args: Any, **kwargs: Any) -> Any:
                self._inspect(trainer, trains=False)
                return method(trainer, *args, **kwargs)

            return call

        kind.__init__, kind.train = __init__, _train
        kind.evaluate, kind.predict = inspected_before(evaluate), inspected_before(predict)

    def _attach(self, trainer: Any) -> None:
        from transformers import PrinterCallback, ProgressCallback

        from raytrainer.reporting import ReportingCallback

        args = trainer.args
        if args.world_size != self._world_size:
            raise ResourcesError(
                Problem(
                    setting="world size",
                    value=args.world_size,
                    reason=f"the script's trainer did not join its process group of {self._world_size} workers, so each"
                    " would train alone",
                    fix="leave the device and the process group to transformers in the script",
                )
            )
        # The driver shows the progress.
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
        trainer.add_callback(ReportingCallback(trainer, self._outbox, precision))

    def _inspect(self, trainer: Any, trains: bool) -> None:
        from raytrainer.holding import hold_to_contract

        if trainer not in self._inspected:
            self._inspected.add(trainer)
            hold_to_contract(trainer, trains, self._order.loss_scale, self._outbox)

    def _train(self, trainer: Any, train: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from raytrainer.keeping import keep
        from raytrainer.pacing import Halted
        from raytrainer.recovery import RecoveryCallback, recoverable_train
        from raytrainer.resuming import Recovery
        from raytrainer.stopping import Stopped

        self._inspect(trainer, trains=True)
        self._trainings += 1
        recovery = Recovery(
            store=self._places.checkpoints(trainer.args.output_dir),
            # The script does in each attempt what it did in the one before: its second training has this name again.
            run=f"{self._order.run}-{self._trainings}",
            keep=keep(trainer.args, None),
            allow_changes=self._order.allow_changes or self._order.clone_of is not None,
            preemptions=self._order.preemptions,
            paced=self._order.paced,
            adopt=self._order.clone_of is not None,
        )
        if self._order.clone_of is not None:
            args, kwargs = (), {**kwargs, "resume_from_checkpoint": self._order.clone_of}
        if self._order.resume and gather(bool(recovery.store.manifests()))[0]:
            args, kwargs = (), {**kwargs, "resume_from_checkpoint": True}
        before = {name: value for name, value in vars(trainer).items() if name in _OF_A_TRAINING}
        try:
            return recoverable_train(train, trainer, recovery, self._wire, self._outbox, gather, args, kwargs)
        except Stopped as stopped:
            self.stopped = stopped.step
            # What Ctrl-C does to a script that runs by itself.
            raise KeyboardInterrupt from None
        except Halted:
            raise SystemExit(0) from None
        finally:
            self._outbox.send(Ended())
            trainer.remove_callback(RecoveryCallback)
            for name in _OF_A_TRAINING:
                vars(trainer).pop(name, None)
            vars(trainer).update(before)

"""One rank's life, from set-up to its last report."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

import ray
import ray.train
from ray import cloudpickle
from ray.train.v2._internal.execution import context as report_context

from raytrainer import shipping
from raytrainer.errors import ContractError, Problem, ResourcesError, TrainingFailed, UserError
from raytrainer.outbox import Outbox
from raytrainer.relay import Delivery
from raytrainer.weights import Weight, collect_weights, load_weights

if TYPE_CHECKING:
    import torch
    from transformers import Trainer, TrainingArguments

    from raytrainer.contract import Verdict
    from raytrainer.precision import Precision

TrainerFactory = Callable[["TrainingArguments"], "Trainer"]
"""What all ways in come down to: arguments built on this worker in, the trainer out. Small when pickled."""

Shared = TypeVar("Shared")

_LOSS_SCALE = (
    "{model} takes num_items_in_batch and ignores it: transformers would log and train on a loss too large by the"
    " number of workers times accumulation steps. Corrected; loss_scale='transformers' gives the stock figures."
)


@dataclass(frozen=True)
class Order:
    """What every rank is told to do.

    Args:
        factory: makes the trainer.
        arguments: class of the training arguments and the values their constructor is given.
        action: name of the trainer's method to call: ``train``, ``evaluate``, ``predict``.
        call: positional and keyword arguments of that call, packed.
        state: fields of the TrainerState to start from, None to start anew.
        weights: weights to load before the call, None where the factory brings them.
        precision: what was asked for; None means what the arguments say.
        loss_scale: ``auto`` or ``transformers``.
        use_cpu: whether the workers have no accelerator.
        use_tpu: whether the workers have TPUs.
        directory: the folder the user started from.
        environment: environment variables that the workers get.
    """

    factory: TrainerFactory
    arguments: tuple[type[TrainingArguments], dict[str, Any]]
    action: str
    call: shipping.Parcel
    state: dict[str, Any] | None
    weights: ray.ObjectRef[dict[str, Weight]] | None
    precision: str | None
    loss_scale: str
    use_cpu: bool
    use_tpu: bool
    directory: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What rank 0 hands back.

    Args:
        value: what the trainer's method returned.
        state: fields of the TrainerState.
        weights: the trained weights, None where nothing was trained.
        callbacks: attributes of each callback that can travel, with the callback's class, in order.
        precision: what was computed in, and why.
        error: a mistake of the user's that all ranks saw; everything else is None then.
    """

    value: Any = None
    state: dict[str, Any] | None = None
    weights: dict[str, Weight] | None = None
    callbacks: list[tuple[type, dict[str, bytes]]] = field(default_factory=list)
    precision: Precision | None = None
    error: UserError | None = None


def train_loop(config: dict[str, Any]) -> None:
    """Run an :class:`Order` on this rank; the function that Ray Train runs on every worker.

    Args:
        config: ``order``, a reference to an Order pickled; ``relay``, the driver's; ``path``, the driver's sys.path.
    """
    # Before the order is read: the user's modules are where the driver found them, where this machine has the folder.
    sys.path += [folder for folder in config["path"] if folder not in sys.path and os.path.isdir(folder)]
    rank = ray.train.get_context().get_world_rank()
    outbox = Outbox(config["relay"], rank)
    try:
        result = _carry_out(config["order"], rank, outbox)
    except UserError as error:
        # Raised alike on every rank before the first step. Returned, because Ray would retry what is raised.
        result = Result(error=error)
    except BaseException as error:
        raise travelling(error) from None
    if rank == 0:
        ray.get(config["relay"].deliver.remote(Delivery([ray.put(result)])))


def _carry_out(pickled: ray.ObjectRef[bytes], rank: int, outbox: Outbox) -> Result:
    clock = time.monotonic()
    order: Order = cloudpickle.loads(ray.get(pickled))
    _settle_in(order)
    from raytrainer.reporting import ReportingCallback

    clock = outbox.phase("imports", clock)
    precision = _agree_on_precision(order, rank)
    trainer = order.factory(_arguments(order, precision))
    _assert_group(trainer)
    if order.state is not None:
        trainer.state = type(trainer.state)(**order.state)
    if order.weights is not None:
        load_weights(cast("torch.nn.Module", trainer.model), ray.get(order.weights))
    args, kwargs = shipping.unpack(order.call, {"trainer": trainer, "arguments": trainer.args})
    clock = outbox.phase("trainer", clock)
    with _some_data(trainer, [*args, *kwargs.values()]):
        _hold_to_contract(trainer, order, outbox)
    outbox.phase("contract", clock)
    outbox.note(f"precision: {precision.reason}")

    trainer.add_callback(ReportingCallback(trainer, outbox, precision.name))
    value = getattr(trainer, order.action)(*args, **kwargs)

    weights = collect_weights(trainer) if order.action == "train" else None
    return Result(
        value=value,
        state=dataclasses.asdict(trainer.state),
        weights=weights,
        callbacks=_callback_states(trainer),
        precision=precision,
    )


def _settle_in(order: Order) -> None:
    os.environ.update(order.environment)
    # A line for every report of every rank, beside the driver's progress that shows the same. The logger is named
    # after its file, so Ray Train's own log level does not reach it.
    logging.getLogger(report_context.__file__).setLevel(logging.WARNING)
    # A relative path means the folder the user started from, where this machine has it.
    with contextlib.suppress(OSError):
        os.chdir(order.directory)
    if order.use_cpu:
        # Without it accelerate takes no process group on the CPU, and every rank would train alone.
        os.environ["ACCELERATE_USE_CPU"] = "true"


def _agree_on_precision(order: Order, rank: int) -> Precision:
    from raytrainer.precision import choose_precision, device_facts, require_tpu_software

    if order.use_tpu:
        require_tpu_software()
    facts = _gather(device_facts(rank, use_cpu=order.use_cpu))
    return choose_precision(order.precision, order.arguments[1], facts)


def _arguments(order: Order, precision: Precision) -> TrainingArguments:
    from raytrainer.arguments import rebuild

    kind, values = order.arguments
    # The driver shows the progress and writes to MLflow: neither bars nor a second MLflow logger here.
    elsewhere = {"use_cpu": order.use_cpu, "disable_tqdm": True}
    report_to = [name for name in values["report_to"] or [] if name != "mlflow"]
    return rebuild(kind, values, **elsewhere, **precision.arguments(), report_to=report_to)


def _assert_group(trainer: Trainer) -> None:
    from transformers import PrinterCallback, ProgressCallback

    world_size = ray.train.get_context().get_world_size()
    if trainer.args.world_size != world_size:
        raise ResourcesError(
            Problem(
                setting="world size",
                value=trainer.args.world_size,
                reason=f"the trainer did not join its process group of {world_size} workers, so each would train alone",
                fix="pass the arguments you are given on to super().__init__() in your trainer's constructor",
            )
        )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)


@contextlib.contextmanager
def _some_data(trainer: Trainer, call: list[Any]) -> Iterator[None]:
    """Lend a trainer that was built without data what ``evaluate`` or ``predict`` is called with."""
    bare = trainer.train_dataset is None and trainer.eval_dataset is None
    data = next((item for item in call if hasattr(item, "__getitem__") and not isinstance(item, str | list)), None)
    if bare:
        trainer.eval_dataset = data
    try:
        yield
    finally:
        if bare:
            trainer.eval_dataset = None


def _hold_to_contract(trainer: Trainer, order: Order, outbox: Outbox) -> None:
    from raytrainer.contract import inspect_model

    # On every rank, though rank 0's word counts: a model may talk to the other ranks in its forward.
    verdict: Verdict | BaseException
    try:
        verdict = inspect_model(trainer, probe_loss_scale=order.loss_scale == "auto")
    except Exception as error:  # handed round: the other ranks wait for this one's verdict
        verdict = travelling(error)
    verdicts = _gather(verdict)
    for failure in verdicts:
        if isinstance(failure, BaseException):
            raise failure
    first = verdicts[0]
    assert not isinstance(first, BaseException)
    if order.action == "train":
        if first.problems:
            raise ContractError(*first.problems)
        for problem in first.warnings:
            outbox.note(str(problem), warning=True)
    if first.ignores_num_items:
        trainer.model_accepts_loss_kwargs = False
        # Said once: an evaluation after the training has a state that has begun.
        if trainer.state.global_step == 0:
            outbox.note(_LOSS_SCALE.format(model=type(trainer.model).__name__), warning=True)


def _gather(item: Shared) -> list[Shared]:
    """Return every rank's item, by rank, on every rank."""
    import torch.distributed as dist

    if not dist.is_initialized():
        return [item]
    items: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(items, item)
    return items


def _callback_states(trainer: Trainer) -> list[tuple[type, dict[str, bytes]]]:
    """Return what each callback knows, attribute by attribute; what cannot travel stays behind."""
    from raytrainer.reporting import ReportingCallback

    states = []
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, ReportingCallback):
            continue
        attributes = {}
        for name, value in vars(callback).items():
            # A lock, an open file or the trainer itself: the driver's callback keeps its own.
            with contextlib.suppress(Exception):
                attributes[name] = _dump_without(trainer, value)
        states.append((type(callback), attributes))
    return states


def _dump_without(trainer: Trainer, value: object) -> bytes:
    """Pickle a value, and refuse one that holds the trainer: its model would travel with it."""
    import io

    class Pickler(cloudpickle.Pickler):
        def persistent_id(self, obj: object) -> None:
            if obj is trainer or obj is trainer.model:
                raise ValueError("the trainer stays on the worker")

    file = io.BytesIO()
    Pickler(file, protocol=5).dump(value)  # type: ignore[no-untyped-call]  # as above
    return file.getvalue()


def travelling(error: BaseException) -> BaseException:
    """Return the error itself where it can be pickled and read back, else one that says the same.

    Ray would otherwise lose the whole report of the worker that failed.
    """
    text = "".join(traceback.format_exception(error))
    error.__dict__.setdefault("_raytrainer_traceback", text)
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:
        failed = TrainingFailed(f"{type(error).__module__}.{type(error).__qualname__}: {error}")
        failed.__dict__["_raytrainer_traceback"] = text
        return failed
    return error

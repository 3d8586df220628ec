"""One rank's life, from set-up to its last report."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import ray
import ray.train
from ray.train.v2._internal.execution import context as report_context

from raytrainer import shipping
from raytrainer.deepspeed import deepspeed_on_cpu, put_together, require_deepspeed
from raytrainer.elastic import accumulation_steps
from raytrainer.errors import Problem, ResourcesError, UserError
from raytrainer.fsdp import shard_for_evaluation, sharding_on_cpu
from raytrainer.monitoring import monitored
from raytrainer.order import Order, Result
from raytrainer.orders import orders, own_sources
from raytrainer.outbox import Outbox
from raytrainer.ranks import gather, limit_waiting
from raytrainer.weights import collect_weights, load_weights
from raytrainer.wire import RelayWire, Wire

# What imports transformers is imported inside the functions: a worker times that import, and reports it.
if TYPE_CHECKING:
    import torch
    from transformers import Trainer, TrainingArguments

    from raytrainer.precision import Precision


def train_loop(config: dict[str, Any]) -> None:
    """Carry out one :class:`Order` after another on this rank; the function that Ray Train runs on every worker.

    Args:
        config: ``relay``, the driver's.
    """
    rank = ray.train.get_context().get_world_rank()
    wire = RelayWire(config["relay"])
    for read in orders(config["relay"], rank):
        _carry_out_and_deliver(read, wire, rank)


def _carry_out_and_deliver(read: Callable[[], Order], wire: Wire, rank: int) -> None:

    try:
        result = carry_out(read, wire, rank)
    except UserError as error:
        # Raised alike on every rank before the first step. Returned, because Ray would retry what is raised.
        result = Result(error=error)
    except BaseException as error:
        from raytrainer.handover import travelling

        with contextlib.suppress(ray.exceptions.RayError):
            wire.settle()
        raise travelling(error) from None
    if rank == 0:
        wire.deliver(dataclasses.replace(result, sources=own_sources()))


def carry_out(read: Callable[[], Order], wire: Wire, rank: int) -> Result:
    """Do what an order says.

    Args:
        read: returns the order, which imports transformers and the user's code: that is timed.
        wire: to the driver.
        rank: of this process; the others do the same.

    Returns:
        What it came to, to be handed over by rank 0.

    Raises:
        UserError: a mistake of the user's, alike on every rank, before the first step.
        Exception: what went wrong.
    """
    clock = time.monotonic()
    outbox = Outbox.here = Outbox(wire, rank)
    order = read()
    settle_in(order.environment, order.directory, order.use_cpu)
    with monitored(order.system_metrics, wire):
        return _carry_out(order, wire, outbox, rank, clock)


def _carry_out(order: Order, wire: Wire, outbox: Outbox, rank: int, clock: float) -> Result:
    from raytrainer.handover import callback_states, schedule_of, settings_of
    from raytrainer.holding import hold_to_contract
    from raytrainer.pacing import Halted
    from raytrainer.recovery import recoverable_train
    from raytrainer.reporting import ReportingCallback
    from raytrainer.stopping import Stopped

    clock = outbox.phase("imports", clock)
    require_deepspeed(order.arguments[1]["deepspeed"], gather)
    precision = _agree_on_precision(order, rank)
    arguments = _arguments(order, precision)
    limit_waiting(arguments.ddp_timeout)
    with sharding_on_cpu(arguments), deepspeed_on_cpu(arguments):
        trainer = order.factory(arguments)
    _assert_group(trainer)
    if order.state is not None:
        here = (trainer.is_local_process_zero(), trainer.is_world_process_zero())
        trainer.state = type(trainer.state)(**order.state)
        trainer.state.is_local_process_zero, trainer.state.is_world_process_zero = here
    if order.weights is not None:
        model = cast("torch.nn.Module", trainer.model)
        with put_together(model):
            load_weights(model, ray.get(order.weights))
    args, kwargs = shipping.unpack(order.call, {"trainer": trainer, "arguments": trainer.args})
    clock = outbox.phase("trainer", clock)
    with _some_data(trainer, [*args, *kwargs.values()]):
        hold_to_contract(trainer, order.action in ("train", "inspect"), order.loss_scale, outbox)
    outbox.phase("contract", clock)
    outbox.note(f"precision: {precision.reason}")

    if order.action == "inspect":
        assert order.finish is not None
        return Result(finished=order.finish(trainer), precision=precision)
    if order.action != "train":
        shard_for_evaluation(trainer)
    trainer.add_callback(ReportingCallback(trainer, outbox, precision.name))
    if order.recovery is None:
        value = getattr(trainer, order.action)(*args, **kwargs)
    else:
        try:
            value = recoverable_train(trainer.train, trainer, order.recovery, wire, outbox, gather, args, kwargs)
        except Stopped as stopped:
            return Result(state=dataclasses.asdict(trainer.state), stopped=stopped.step, precision=precision)
        except Halted:
            return Result(state=dataclasses.asdict(trainer.state), precision=precision)

    if order.finish is not None:
        finished = order.finish(trainer)
        return Result(value, finished, state=dataclasses.asdict(trainer.state), precision=precision)
    weights = collect_weights(trainer) if order.action == "train" else None
    return Result(
        value=value,
        state=dataclasses.asdict(trainer.state),
        weights=weights,
        schedule=schedule_of(trainer) if order.action == "train" else None,
        settings=settings_of(trainer) if order.action == "train" else None,
        callbacks=callback_states(trainer) if rank == 0 else [],
        precision=precision,
    )


def settle_in(environment: dict[str, str], directory: str, use_cpu: bool) -> None:
    """Give this process the driver's variables and folder, as far as this machine has it.

    Args:
        environment: variables.
        directory: the folder the user started from.
        use_cpu: whether the workers have no accelerator.
    """
    os.environ.update(environment)
    # A line for every report of every rank, beside the driver's progress that shows the same. The logger is named
    # after its file, so Ray Train's own log level does not reach it.
    logging.getLogger(report_context.__file__).setLevel(logging.WARNING)
    # A relative path means the folder the user started from, where this machine has it.
    with contextlib.suppress(OSError):
        os.chdir(directory)
    if use_cpu:
        # Without it accelerate takes no process group on the CPU, and every rank would train alone.
        os.environ["ACCELERATE_USE_CPU"] = "true"


def _agree_on_precision(order: Order, rank: int) -> Precision:
    from raytrainer.precision import choose_precision, device_facts, require_tpu_software

    if order.use_tpu:
        require_tpu_software()
    facts = gather(device_facts(rank, use_cpu=order.use_cpu))
    return choose_precision(order.precision, order.arguments[1], facts)


def _arguments(order: Order, precision: Precision) -> TrainingArguments:
    from raytrainer.arguments import rebuild

    kind, values = order.arguments
    # transformers writes its arguments beside every model; without a token the hub's library asks for this one.
    if token := values.get("hub_token"):
        os.environ["HF_TOKEN"] = token
    # The driver shows the progress and writes to MLflow: neither bars nor a second MLflow logger here. transformers'
    # just-in-time checkpoints need a signal, which no thread can catch; the run's own take their place. Every machine
    # gets the checkpoints from the run's storage.
    elsewhere: dict[str, Any] = {"use_cpu": order.use_cpu, "disable_tqdm": True, "hub_token": None}
    elsewhere |= {"enable_jit_checkpoint": False, "save_on_each_node": False}
    if order.global_train_batch_size is not None:
        shared = values["per_device_train_batch_size"], ray.train.get_context().get_world_size()
        elsewhere["gradient_accumulation_steps"] = accumulation_steps(order.global_train_batch_size, *shared)
    report_to = [name for name in values["report_to"] or [] if name != "mlflow"]
    arguments = rebuild(kind, values, **elsewhere, **precision.arguments(), report_to=report_to)
    vars(arguments).update(shipping.unpack(order.attributes))
    return arguments


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

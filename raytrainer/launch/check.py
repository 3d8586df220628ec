"""``raytrainer check``: everything about a run that can be known before it costs anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import ray
from ray.train.v2.api.config import ScalingConfig

from raytrainer import cluster, shipping
from raytrainer.config.section import Trained
from raytrainer.errors import UserError
from raytrainer.launch.cadence import cadence_rows
from raytrainer.launch.cheap import cheap_problems, without_effect
from raytrainer.launch.fast import settled
from raytrainer.launch.nodes import storage_row
from raytrainer.launch.plan import Plan, job_of, plan
from raytrainer.launch.rows import Row, failed, print_rows
from raytrainer.launch.sending import send_code
from raytrainer.run import Outcome
from raytrainer.secrets import masked
from raytrainer.tasks.inspection import Inspection, Inspector, Memory, Timing
from raytrainer.tracking import check_store
from raytrainer.watching import sweep, watched_fit


def check(config: Trained, timed: bool, address: str | None = None) -> int:
    """Look at a run from all sides and print a table; what stays is the data that was prepared, in its cache.

    Args:
        config: the run's.
        timed: whether to train a few steps and tell how long all of them will take.
        address: the Ray cluster's; None for ``RAY_ADDRESS``, else a Ray of its own.

    Returns:
        The exit status: 0 where nothing failed, else 2.
    """
    rows = [Row("config", "ok", f"{config.name}: {getattr(config, 'task', None) or getattr(config, 'trainer', '')}")]
    rows += _rows(config, timed, address)
    print_rows(rows)
    return 2 if any(row.verdict == "failed" for row in rows) else 0


def _rows(config: Trained, timed: bool, address: str | None) -> Iterator[Row]:
    try:
        planned = plan(config)
    except UserError as error:
        yield failed("training arguments", *error.problems)
        return
    yield Row("training arguments", "ok", f"{len(config.training)} set, accepted by {_kind(planned)}")
    try:
        cluster.connect(cluster.cpus(planned.scaling), address)
    except UserError as error:
        yield failed("cluster", *error.problems)
        return
    planned, chosen = settled(planned)
    config, scaling = planned.config, planned.scaling
    assert scaling is not None, "the cluster has been asked"
    yield from (Row("fast", "ok", line) for line in chosen)
    wrong = list(cheap_problems(planned))
    supply = ", ".join(f"{ray.cluster_resources().get(name, 0):g} {name}" for name in cluster.worker_resources(scaling))
    if wrong:
        yield failed("cluster and data files", *wrong)
    elif missing := cluster.check_supply(scaling, scaling.min_workers):
        yield Row("cluster", "warning", missing)
    else:
        yield Row("cluster", "ok", f"{scaling.num_workers} worker(s); the cluster has {supply}")
    yield from (Row("settings", "warning", line) for line in without_effect(planned))
    yield storage_row(str(planned.run.storage_path))
    yield _mlflow_row(planned)
    if wrong:
        later = "data", "model", "precision", "memory", "steps"
        yield from (Row(what, "not seen", "after what failed above is mended") for what in later)
        return
    yield from _worker_rows(planned, scaling, timed)


def _worker_rows(planned: Plan, scaling: ScalingConfig, timed: bool) -> Iterator[Row]:
    job = dataclasses.replace(
        job_of(planned, False, send_code(planned.config)),
        action="inspect",
        call=shipping.Shipper().pack(((), {})),
        recovery=None,
        finish=Inspector(timed),
    )
    try:
        outcome = watched_fit(job, None, planned.folder)
    except UserError as error:
        yield failed("data and model", *error.problems)
        return
    except Exception as error:  # whatever a model or a data set does; it would end the training in the same way
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        yield Row("data and model", "failed", f"on a worker: {type(error).__name__}: {first}")
        return
    finally:
        sweep(str(planned.run.storage_path), planned.config.name)
    found: Inspection = outcome.finished
    yield Row("data", "ok", f"{_examples(found)}; columns and labels fit the model")
    trained = "" if found.trained == found.parameters else f", {found.trained:,} of them trained"
    yield Row("model", "ok", f"{found.model}: {found.parameters:,} parameters{trained}; keeps the Trainer's contract")
    yield _precision_row(outcome)
    yield _memory_row(found.memory, found.timing)
    yield _batch_row(planned, scaling, found)
    yield from cadence_rows(planned.arguments, found)


def _examples(found: Inspection) -> str:
    train = "a stream of" if found.train_examples is None else f"{found.train_examples:,}"
    return f"{train} training and {found.eval_examples:,} evaluation examples"


def _kind(planned: Plan) -> str:
    return f"transformers.{type(planned.arguments).__name__.removeprefix('Ray')}"


def _mlflow_row(planned: Plan) -> Row:
    if planned.tracking is None:
        return Row("MLflow", "ok", "off")
    uri = masked(planned.tracking.tracking_uri)
    try:
        check_store(planned.tracking)
    except UserError as error:
        if planned.tracking.required:
            return failed("MLflow", *error.problems)
        return Row("MLflow", "warning", f"{uri}: it gets everything later ({error.problems[0].reason})")
    return Row("MLflow", "ok", f"{uri}: reached from this machine, which writes it")


def _precision_row(outcome: Outcome) -> Row:
    assert outcome.precision is not None
    return Row("precision", "ok", outcome.precision.reason)


def _memory_row(memory: Memory, timing: Timing | None) -> Row:
    activations = "not seen" if memory.activations is None else _size(memory.activations)
    parts = f"parameters {_size(memory.parameters)}, gradients {_size(memory.gradients)}, optimizer"
    parts += f" {_size(memory.optimizer)}, activations {activations}"
    measured = f"; measured at most {_size(timing.peak)}" if timing is not None and timing.peak else ""
    found = f"about {_size(memory.needed)} of {_size(memory.device)} a worker: {parts}{measured}"
    share = max(memory.needed, timing.peak or 0 if timing else 0) / memory.device
    if share > 1:
        fix = "a smaller training.per_device_train_batch_size, training.gradient_checkpointing, and model.peft or fsdp"
        return Row("memory", "failed", f"{found}\n  Instead: {fix}")
    return Row("memory", "warning" if share > 0.85 else "ok", found)


def _batch_row(planned: Plan, scaling: ScalingConfig, found: Inspection) -> Row:
    args = planned.arguments
    asked = planned.config.global_train_batch_size
    workers = scaling.max_workers
    accumulation = found.batch_size // (args.per_device_train_batch_size * workers)
    sum_ = f"{args.per_device_train_batch_size} a worker x {workers} workers x {accumulation} accumulated"
    text = f"{found.batch_size} examples an optimizer step = {sum_}"
    if found.train_examples is not None and found.train_examples < found.batch_size:
        return Row("batch", "warning", f"{text}: more than the {found.train_examples} training examples")
    return Row("batch", "ok", text if asked is None else f"{text}, as global_train_batch_size says")


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.3g} GiB"

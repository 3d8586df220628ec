"""``raytrainer run``: a script on the workers of a Ray cluster."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import tempfile

from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig

from raytrainer import cluster
from raytrainer.claim import claimed
from raytrainer.errors import ArgumentsError, Interrupted, ScriptFailed, TrainingFailed
from raytrainer.job import OF_MLFLOW
from raytrainer.launch.script_call import ScriptCall, problems
from raytrainer.launch.script_records import Records, tracking_of
from raytrainer.launch.script_sinks import Shown
from raytrainer.launch.sending import send_folder
from raytrainer.progress import Progress
from raytrainer.run import fit
from raytrainer.script_job import ScriptJob
from raytrainer.tracking import check_store


def run_script(call: ScriptCall) -> int:
    """Run a script on every worker and wait for it.

    Args:
        call: what was asked for.

    Returns:
        The exit status: the script's own; 1 where it raised or a worker is gone; 130 after Ctrl-C or SIGTERM.

    Raises:
        UserError: a mistake that was found before the script's first step.
    """
    if found := list(problems(call)):
        raise ArgumentsError(*found)
    target = tracking_of(call)
    if target is not None and target.required:
        check_store(target)
    records = Records(call, target)
    name = records.storage.name if records.storage else None
    with claimed(records.folder, "--name", name) if records.folder else contextlib.nullcontext():
        return _run(call, records)


def _run(call: ScriptCall, records: Records) -> int:
    _connect(call)
    scaling = _scaling(call)
    with tempfile.TemporaryDirectory(prefix="raytrainer-") as scratch:
        job = _job(call, scaling, scratch, records)
        if call.replaces and records.folder is not None:
            asked = scaling or cluster.default_scaling()
            cluster.check_supply(asked, job.sizes(asked)[0])
            records.folder.delete()
        try:
            fit(job)
        except ScriptFailed as failure:
            if failure.rank and failure.text:  # rank 0's is shown already
                print(f"rank {failure.rank}:\n{failure.text}", file=sys.stderr, flush=True)
            return failure.status or 1
        except TrainingFailed as failure:
            print(f"raytrainer run: {failure}", file=sys.stderr, flush=True)
            return 1
        except Interrupted as stop:
            print(records.how_to_go_on(stop.step), file=sys.stderr, flush=True)
            return 130
        finally:
            records.say_where()
    return 0


def _scaling(call: ScriptCall) -> ScalingConfig | None:
    if call.scaling is not None:
        return call.scaling if call.num_workers is not None else cluster.one_a_gpu(call.scaling)
    if call.num_workers is None and not call.use_gpu and call.cpus_per_worker is None:
        return None
    workers = call.num_workers or cluster.default_scaling().max_workers
    resources = None
    if call.cpus_per_worker is not None:
        resources = {"CPU": call.cpus_per_worker, **({"GPU": 1.0} if call.use_gpu else {})}
    return ScalingConfig(num_workers=workers, use_gpu=call.use_gpu, resources_per_worker=resources)


def _connect(call: ScriptCall) -> None:
    slots = 1.0 if call.cpus_per_worker is None else call.cpus_per_worker
    needed = math.ceil(slots * (call.num_workers or 1)) if call.scaling is None else cluster.cpus(call.scaling)
    cluster.connect(needed, call.address)


def _job(call: ScriptCall, scaling: ScalingConfig | None, scratch: str, records: Records) -> ScriptJob:
    script = call.script if call.module else os.path.abspath(call.script)
    sent = send_folder(None if call.module else script)
    storage = records.storage
    return ScriptJob(
        target=script,
        module=call.module,
        arguments=call.arguments,
        scaling=scaling,
        run=RunConfig(
            name=storage.name if storage else None,
            storage_path=storage.path if storage else scratch,
            failure_config=FailureConfig(max_failures=call.max_failures),
            logging_config=LoggingConfig(log_level="WARNING"),
            worker_runtime_env=sent.runtime_env if sent else None,
        ),
        root=sent.root if sent else None,
        node=sent.node if sent else None,
        storage=records.folder,
        loss_scale=call.loss_scale,
        travelling=[*call.env, *(OF_MLFLOW if records.target is not None else [])],
        system_metrics=records.target is not None and records.target.system_metrics,
        sinks=[Shown(), Progress(description=os.path.basename(call.script)), *records.sinks],
    )

"""What a config comes to before anything is started: Ray Train's configurations, training arguments, the job."""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from dataclasses import dataclass
from typing import Any

from ray.train.v2.api.config import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from transformers import Seq2SeqTrainingArguments, TrainingArguments

from raytrainer import shipping
from raytrainer.arguments import RaySeq2SeqTrainingArguments, RayTrainingArguments, field_values
from raytrainer.checkpoints import Store, join, on_this_machine
from raytrainer.config.schema import OwnTrainer, Task
from raytrainer.config.section import Common, Trained
from raytrainer.deepspeed_config import config_for, read_config
from raytrainer.errors import ArgumentsError, Problem
from raytrainer.job import OF_MLFLOW, Job
from raytrainer.keeping import keep
from raytrainer.launch.scaling import scaling_config
from raytrainer.launch.sending import Sent
from raytrainer.launch.variables import unset
from raytrainer.resuming import Recovery
from raytrainer.run_record import ALLOW_CHANGES_VARIABLE
from raytrainer.scratch import scratch_folder
from raytrainer.tasks.factory import TaskFactory
from raytrainer.tasks.own import OwnFactory
from raytrainer.tracking import Target, tracking_target
from raytrainer.tracking_target import REQUIRED_VARIABLE


@dataclass(frozen=True)
class Plan:
    """A config, and what it comes to.

    Args:
        config: the config.
        run: Ray Train's run configuration.
        scaling: Ray Train's scaling configuration, None for what the cluster has.
        folder: the run's.
        arguments: the training arguments, as this machine can build them.
        tracking: where the run is recorded, None for nowhere.
    """

    config: Trained
    run: RunConfig
    scaling: ScalingConfig | None
    folder: Store
    arguments: Any
    tracking: Target | None


def plan(config: Trained) -> Plan:
    """Work out what a config comes to; starts nothing.

    Raises:
        UserError: settings that do not fit each other.
    """
    if problems := list(unset("run.env", config.run.env, "the config without it")):
        raise ArgumentsError(*problems)
    run = run_config(config)
    folder = Store(join(str(run.storage_path), config.name))
    arguments = training_arguments(config, folder)
    _require_whole_for_adapter(config, field_values(arguments))
    tracking = tracking_target(arguments, mlflow_environment(config), os.getcwd())
    return Plan(config, run, scaling_config(config.scaling), folder, arguments, tracking)


def run_config(config: Trained) -> RunConfig:
    """Return Ray Train's run configuration of a config."""
    asked = config.run
    checkpoints = None
    if asked.keep is not None:
        if asked.keep.best:
            metric = config.training.get("metric_for_best_model", "loss")
            greater = config.training.get("greater_is_better")
            greater = not str(metric).endswith("loss") if greater is None else greater
            checkpoints = CheckpointConfig(asked.keep.best, metric, "max" if greater else "min")
        else:
            checkpoints = CheckpointConfig(asked.keep.last)
    return RunConfig(
        name=config.name,
        storage_path=on_this_machine(asked.storage_path),
        failure_config=FailureConfig(max_failures=asked.max_failures),
        checkpoint_config=checkpoints,
        logging_config=LoggingConfig(log_level="WARNING"),
    )


def training_arguments(config: Trained, folder: Store) -> Any:
    """Build the training arguments of a config on this machine.

    Raises:
        UserError: they do not fit each other.
    """
    local = str(folder.folder if folder.local else scratch_folder(folder))
    generates = getattr(config, "task", None) == "seq2seq" or _seq2seq_fields(config)
    kind = RaySeq2SeqTrainingArguments if generates else RayTrainingArguments
    given = dict(config.training)
    report_to = given.pop("report_to", None) or []
    report_to = [report_to] if isinstance(report_to, str) else report_to
    report_to = [name for name in report_to if name not in ("mlflow", "none", "all")]
    if config.run.keep is not None:
        given["save_total_limit"] = config.run.keep.last
    if config.mlflow is not None:
        report_to.append("mlflow")
        given["run_name"] = config.mlflow.run_name or given.get("run_name") or config.name
    try:
        return kind(output_dir=local, report_to=report_to or "none", **given)
    except (ValueError, TypeError, ImportError) as error:
        fix = f"fields that transformers' {kind.__name__.removeprefix('Ray')} takes together"
        raise ArgumentsError(Problem("training", config.training, str(error), fix)) from error


def _require_whole_for_adapter(config: Trained, arguments: dict[str, Any]) -> None:
    """Refuse an adapter where the model is split over the workers: in the end rank 0 puts it into the whole model."""
    if not isinstance(config, Task) or config.model.peft is None:
        return
    # Of DeepSpeed's configurations only stage 3 splits the weights, and no other is one for an evaluation.
    three = config_for("evaluate", read_config(arguments["deepspeed"])) is not None
    splits = "training.fsdp" if arguments["fsdp"] else "stage 3 of training.deepspeed" if three else None
    if splits is not None:
        reason = f"{splits} splits the model over the workers, and an adapter is put into a whole one in the end"
        fix = "one of the two; with an adapter training.gradient_checkpointing saves memory, or stage 2 of DeepSpeed"
        raise ArgumentsError(Problem("model.peft", config.model.peft, reason, fix))


def mlflow_environment(config: Common) -> dict[str, str]:
    """Return the environment with what the config says of MLflow, by the variables that MLflow knows."""
    asked = config.mlflow
    if asked is None:
        return dict(os.environ)
    said = {"MLFLOW_TRACKING_URI": asked.tracking_uri, "MLFLOW_EXPERIMENT_NAME": asked.experiment}
    said[REQUIRED_VARIABLE] = None if asked.required else "false"
    if asked.system_metrics is not None:
        said["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] = str(asked.system_metrics).lower()
    said["MLFLOW_TAGS"] = json.dumps(asked.tags) if asked.tags else None
    return {**os.environ, **{name: value for name, value in said.items() if value is not None}}


def job_of(planned: Plan, resume: bool, sent: Sent | None) -> Job:
    """Return the job that trains a config.

    Args:
        planned: the config.
        resume: whether to go on from the run's checkpoints.
        sent: the folder with the modules of the user's own; None where all machines have them.
    """
    config, run, arguments, folder = planned.config, planned.run, planned.arguments, planned.folder
    factory: Any
    if isinstance(config, OwnTrainer):
        factory = OwnFactory(config, folder)
        if sent is not None:
            run = dataclasses.replace(run, worker_runtime_env=sent.runtime_env)
    else:
        cache = config.data.cache or join(str(run.storage_path), "cache")  # type: ignore[attr-defined]  # a task has it
        factory = TaskFactory(config, folder, Store(on_this_machine(cache)))  # type: ignore[arg-type]  # it is a task
    values = {**field_values(arguments), "output_dir": arguments.output_dir}
    values["deepspeed"] = config_for("train", read_config(values["deepspeed"]))
    says = arguments.bf16 or arguments.fp16
    return Job(
        factory=factory,
        arguments=(type(arguments), values),
        attributes=shipping.Shipper().pack({}),
        action="train",
        call=shipping.Shipper().pack(((), {"resume_from_checkpoint": True} if resume else {})),
        scaling=planned.scaling,
        run=run,
        precision=config.precision or (None if says else "auto"),
        loss_scale=config.loss_scale,
        global_train_batch_size=config.global_train_batch_size,
        recovery=Recovery(
            store=folder.below("checkpoints"),
            run=uuid.uuid4().hex,
            keep=keep(arguments, run),
            allow_changes=bool(os.environ.get(ALLOW_CHANGES_VARIABLE)),
        ),
        finish=factory.finish,
        travelling=[*config.run.env, *(OF_MLFLOW if planned.tracking is not None else [])],
        system_metrics=planned.tracking is not None and planned.tracking.system_metrics,
    )


def _seq2seq_fields(config: Trained) -> bool:
    every, plain = (
        {field.name for field in dataclasses.fields(kind)} for kind in (Seq2SeqTrainingArguments, TrainingArguments)
    )
    return bool((every - plain) & config.training.keys())

"""The parts that every run's config has: workers, storage, MLflow, Kubernetes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from raytrainer.config.kubernetes import Kubernetes
from raytrainer.config.setting import Count, Section, Word, form

__all__ = ["Common", "Count", "Keep", "MLflow", "Scaling", "Section", "Storage", "Trained", "Word", "form"]


class Scaling(Section):
    """How many workers, and what each has: the arguments of ray.train.ScalingConfig."""

    num_workers: Count | Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None
    """Worker processes; [least, most] for a number that follows the cluster. Default: one a GPU, else one."""
    use_gpu: bool = False
    """A GPU for each worker."""
    use_tpu: bool = False
    """A TPU host for each worker."""
    topology: str | None = None
    """TPU topology, for example 4x4."""
    accelerator_type: str | None = None
    """Kind of accelerator as Ray names it, for example H100 or TPU-V6E."""
    resources_per_worker: dict[str, float] | None = None
    """What each worker asks for, for example {CPU: 2, GPU: 1}."""
    placement_strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    """How workers are placed on nodes."""
    label_selector: dict[str, str] | None = None
    """Labels that a worker's node must have."""


class Keep(Section):
    """Which checkpoints stay in the storage."""

    last: Annotated[int, Field(ge=1)] = 1
    """The newest ones."""
    best: Annotated[int, Field(ge=0)] = 0
    """The best ones, beside the newest: by training.metric_for_best_model, without it by the evaluation's loss."""


class Storage(Section):
    """Where a run is kept and what happens to it there."""

    storage_path: Word = "runs"
    """Folder or URI (s3://bucket/runs) under which the run has a folder of its name."""
    max_failures: Annotated[int, Field(ge=-1)] = 0
    """How often the run goes on by itself after a failure; -1 for always."""
    keep: Keep | None = None
    """Which checkpoints stay. Default: what training.save_total_limit says."""
    env: list[
        Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", json_schema_extra=form("a variable's name"))]
    ] = []
    """Names of environment variables that the workers get from here, for example [HF_TOKEN]; MLFLOW_* they have."""
    existing: Literal["refuse", "resume", "replace"] = "refuse"
    """When there is a run of this name: refuse to touch it, go on with it, or delete it and begin anew."""


class MLflow(Section):
    """Where the run is recorded."""

    tracking_uri: str | None = None
    """Server or database. Default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db."""
    experiment: str | None = None
    """Name of the experiment. Default: MLFLOW_EXPERIMENT_NAME, else Default."""
    run_name: str | None = None
    """Default: the run's name."""
    tags: dict[str, str] = {}
    """Tags of the run."""
    required: bool = True
    """Whether a server that cannot be used at the start is an error; false: it gets everything when it is back."""
    log_model: bool = False
    """Copy the trained model to MLflow, for mlflow.transformers.load_model; else only its place is noted."""
    register_: Annotated[Word | None, Field(alias="register")] = None
    """Name under which the trained model is registered; log_model with it."""
    alias: Word | None = None
    """Alias of the registered version, for example champion."""
    system_metrics: bool | None = None
    """CPU, memory, disk, network and GPUs of every node, by MLflow's monitors; not in a sweep. Default:
    MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING."""

    @property
    def puts_model(self) -> bool:
        """Whether the trained model goes to MLflow."""
        return self.log_model or self.register_ is not None


class Common(Section):
    """What every config has."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            max_length=128,
            json_schema_extra=form(
                "letters, digits, dots, dashes and underscores, a letter or digit first, 128 at most"
            ),
        ),
    ]
    """The run's name: its folder under run.storage_path."""
    scaling: Scaling = Scaling()
    """How many workers, and what each has."""
    run: Storage = Storage()
    """Storage, failures, checkpoints."""
    mlflow: MLflow | None = MLflow()
    """Where the run is recorded; null for nowhere."""
    kubernetes: Kubernetes | None = None
    """How raytrainer manifest makes pods of the run; elsewhere without effect."""


class Trained(Common):
    """What every config has that is not a whole script."""

    training: dict[str, Any] = {}
    """Fields of transformers.TrainingArguments (seq2seq: Seq2SeqTrainingArguments), as they are called there."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] | None = None
    """auto: the best that the workers' hardware can; default: auto, unless training says bf16 or fp16."""
    fast: bool = False
    """true: fields of training that the hardware decides are chosen, where training leaves them open."""
    loss_scale: Literal["auto", "transformers"] = "auto"
    """auto corrects transformers' loss for models that ignore num_items_in_batch."""
    global_train_batch_size: Count | None = None
    """Examples of an optimizer step over all workers; each worker's accumulation follows."""

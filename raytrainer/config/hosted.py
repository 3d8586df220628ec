"""The parts of a config that other packages define: training arguments, LoRA."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from raytrainer.config.host import HostField, host_fields
from raytrainer.config.schema import TASKS, Model, OwnTrainer, Script, Task
from raytrainer.config.section import Common, Section, Trained

KINDS: dict[str, type[Common]] = {**TASKS, "trainer": OwnTrainer, "script": Script}
"""Every kind of config, by the name that ``kind_of`` gives it."""

_TRAINING_FILES = ("training_args.py", "training_args_seq2seq.py", "trainer_utils.py", "debug_utils.py")
_LORA_FILES = ("config.py", "tuners/lora/config.py", "utils/peft_types.py")

# What the annotations do not say.
_AT_LEAST_1 = (
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "save_total_limit"),
    *("eval_accumulation_steps", "torch_empty_cache_steps", "dataloader_prefetch_factor", "ddp_timeout"),
    *("ddp_bucket_cap_mb", "generation_max_length", "generation_num_beams", "r", "lora_alpha"),
)
_AT_LEAST_0 = (
    *(
        "learning_rate",
        "num_train_epochs",
        "warmup_steps",
        "warmup_ratio",
        "weight_decay",
        "adam_epsilon",
        "eval_delay",
    ),
    *("max_grad_norm", "logging_steps", "eval_steps", "save_steps", "dataloader_num_workers", "neftune_noise_alpha"),
)
_RANGES: dict[str, Any] = {
    **dict.fromkeys(_AT_LEAST_1, Field(ge=1)),
    **dict.fromkeys(_AT_LEAST_0, Field(ge=0)),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "lora_dropout"), Field(ge=0, lt=1)),
    **dict.fromkeys(("seed", "data_seed"), Field(ge=0, lt=2**32)),
    "max_steps": Field(ge=-1),
    "label_smoothing_factor": Field(ge=0, le=1),
}
_LOG_LEVELS = Literal["debug", "info", "warning", "error", "critical", "passive", "detail"]
# What transformers takes beside what it declares, or narrows at run time.
_TYPES: dict[str, Any] = {
    "fsdp": bool | str | list[str] | None,
    "log_level": _LOG_LEVELS,
    "log_level_replica": _LOG_LEVELS,
}

RESERVED: dict[str, tuple[str, str]] = {
    "output_dir": ("the run's folder is what it is", "run.storage_path, and name"),
    "resume_from_checkpoint": ("trainers do not read it", "run.existing: resume"),
    "local_rank": ("the workers get their ranks from Ray", "nothing"),
}
"""Training arguments that a config does not take: why, and what to write instead."""


@cache
def training_fields(seq2seq: bool) -> dict[str, HostField]:
    """Return the fields of the installed transformers' training arguments; none where it cannot be read."""
    name = "Seq2SeqTrainingArguments" if seq2seq else "TrainingArguments"
    return host_fields("transformers", _TRAINING_FILES, name)


@cache
def checked(kind: str) -> type[Common]:
    """Return the model of a kind of config that knows the training arguments and LoRA's settings, too."""
    base = KINDS[kind]
    replaced: dict[str, Any] = {}
    if issubclass(base, Trained) and (training := training_section(seq2seq=kind in ("seq2seq", "trainer"))):
        replaced["training"] = (training, Field(default={}, description=base.model_fields["training"].description))
    if issubclass(base, Task) and (model := _model()):
        replaced["model"] = (model, ...)
    return create_model(base.__name__, __base__=base, __doc__=base.__doc__, **replaced)


@cache
def training_section(seq2seq: bool) -> type[Section] | None:
    """Return the model of the training arguments that a config takes; None where transformers cannot be read."""
    fields = {name: field for name, field in training_fields(seq2seq).items() if name not in RESERVED}
    return _section("Seq2SeqTrainingArguments" if seq2seq else "TrainingArguments", fields)


@cache
def _model() -> type[Section] | None:
    lora = _section("LoraConfig", host_fields("peft", _LORA_FILES, "LoraConfig"))
    if lora is None:
        return None
    peft: Any = (lora | None, Field(default=None, description=Model.model_fields["peft"].description))
    return create_model("Model", __base__=Model, __doc__=Model.__doc__, peft=peft)


def _section(name: str, fields: dict[str, HostField]) -> type[Section] | None:
    if not fields:
        return None
    made: dict[str, Any] = {}
    for field in fields.values():
        annotation = _TYPES.get(field.name, field.annotation)
        if field.name in _RANGES and annotation is not Any:
            annotation = Annotated[annotation, _RANGES[field.name]]
        # With a factory the JSON schema says nothing of a default, where nothing is known of it.
        default: Any = {"default": field.default} if field.has_default else {"default_factory": lambda: None}
        made[field.name] = (annotation, Field(**default, description=field.help or None))
    return create_model(name, __base__=Section, **made)

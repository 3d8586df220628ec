"""RayTrainer's own arguments."""

from __future__ import annotations

from ray.train.v2.api.config import RunConfig, ScalingConfig
from transformers import TrainingArguments

from raytrainer.checks.wording import kind_of
from raytrainer.deepspeed_config import Asked, config_problems, read_config
from raytrainer.elastic import batch_problems
from raytrainer.errors import ArgumentsError, Problem, unknown_name
from raytrainer.precision import conflicting_precision

_LOSS_SCALES = ("auto", "transformers")


def own(
    scaling: object,
    run: object,
    precision: str | None,
    loss_scale: str,
    global_train_batch_size: int | None,
    given: TrainingArguments,
) -> None:
    """Check RayTrainer's own arguments.

    Raises:
        ArgumentsError: one is wrong, or contradicts the training arguments.
    """
    problems: list[Problem] = []
    if scaling is not None and not isinstance(scaling, ScalingConfig):
        workers = scaling if isinstance(scaling, int) else 2
        problems.append(
            Problem(
                "scaling_config",
                scaling,
                f"it is a {kind_of(scaling)}, not a ray.train.ScalingConfig",
                f"scaling_config=ScalingConfig(num_workers={workers}), from ray.train",
            )
        )
    elif scaling is not None:
        problems += _scaling(scaling, given)
        problems += batch_problems(global_train_batch_size, scaling, vars(given))
    if run is not None and not isinstance(run, RunConfig):
        problems.append(
            Problem(
                "run_config",
                run,
                f"it is a {kind_of(run)}, not a ray.train.RunConfig",
                "run_config=RunConfig(name=..., storage_path=...), from ray.train",
            )
        )
    if loss_scale not in _LOSS_SCALES:
        problems.append(
            Problem("loss_scale", loss_scale, "there is no such way", unknown_name(str(loss_scale), _LOSS_SCALES))
        )
    problems += conflicting_precision(precision, vars(given))
    if not problems:
        # Not before batch, workers and precision are right: it has to agree with them.
        number = scaling.max_workers if isinstance(scaling, ScalingConfig) else None
        asked = Asked(vars(given), precision, number, global_train_batch_size)
        problems += config_problems(read_config(given.deepspeed), asked)
    if problems:
        raise ArgumentsError(*problems)


def _scaling(scaling: ScalingConfig, given: TrainingArguments) -> list[Problem]:
    problems = []
    if scaling.num_workers == 0:
        problems.append(
            Problem(
                "scaling_config.num_workers",
                0,
                "there is nobody to train",
                "ScalingConfig(num_workers=1), or transformers' own Trainer for this process",
            )
        )
    if given.use_cpu and (scaling.use_gpu or scaling.use_tpu):
        problems.append(
            Problem(
                "args.use_cpu",
                True,
                "scaling_config asks for an accelerator for every worker",
                "leave use_cpu out, or ScalingConfig(use_gpu=False)",
            )
        )
    return problems

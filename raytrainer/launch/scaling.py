"""The workers that a config asks for, as Ray Train's configuration."""

from __future__ import annotations

from ray.train.v2.api.config import ScalingConfig

from raytrainer import cluster
from raytrainer.config.section import Scaling
from raytrainer.errors import ArgumentsError, Problem


def scaling_config(asked: Scaling) -> ScalingConfig | None:
    """Return Ray Train's scaling configuration; None where nothing is asked for.

    Without a number of workers it has one, until the cluster is known: :func:`with_workers`.

    Raises:
        UserError: Ray Train refuses it.
    """
    values = asked.model_dump(exclude_defaults=True)
    if not values:
        return None
    if isinstance(asked.num_workers, list):
        values["num_workers"] = tuple(asked.num_workers)
    try:
        return ScalingConfig(**values)
    except ValueError as error:
        fix = "what ray.train.ScalingConfig takes, for example {num_workers: 2, use_gpu: true}"
        raise ArgumentsError(Problem("scaling", values, str(error), fix)) from error


def with_workers(scaling: ScalingConfig | None, asked: Scaling) -> ScalingConfig:
    """Return the scaling configuration with a number of workers, which may follow from the cluster's GPUs.

    Args:
        scaling: as :func:`scaling_config` gave it.
        asked: what the config says.
    """
    if scaling is None:
        return cluster.default_scaling()
    return scaling if asked.num_workers is not None else cluster.one_a_gpu(scaling)

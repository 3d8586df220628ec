"""Where a run's checkpoints are and which of them stay, from transformers' arguments and Ray Train's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.train.constants import DEFAULT_STORAGE_PATH
from ray.train.v2.api.config import RunConfig

from raytrainer.checkpoints import Keep, Store, join, on_this_machine

if TYPE_CHECKING:
    from transformers import TrainingArguments


def run_folder(run: RunConfig | None, output_dir: str) -> Store:
    """Return the folder of a run: ``storage_path/name`` where the user chose a storage, else ``output_dir``.

    Args:
        run: Ray Train's run configuration, None where the user gave none.
        output_dir: the trainer's, absolute.
    """
    if not has_storage(run):
        return Store(output_dir)
    assert run is not None
    path = str(run.storage_path) if run.storage_filesystem else on_this_machine(str(run.storage_path))
    return Store(join(path, str(run.name)), run.storage_filesystem)


def checkpoint_store(run: RunConfig | None, output_dir: str) -> Store:
    """Return where a run's checkpoints are: ``checkpoints`` in its folder, or ``output_dir`` as transformers has it."""
    folder = run_folder(run, output_dir)
    return Store(join(folder.path, "checkpoints"), folder.filesystem) if has_storage(run) else folder


def has_storage(run: RunConfig | None) -> bool:
    """Tell whether the user chose a storage."""
    if run is None:
        return False
    return run.storage_filesystem is not None or str(run.storage_path) != DEFAULT_STORAGE_PATH


def keep(args: TrainingArguments, run: RunConfig | None) -> Keep:
    """Return which checkpoints stay.

    ``save_total_limit`` is how many in all, as transformers has it: the newest and the best one stay whatever their
    age. Ray Train's ``CheckpointConfig(num_to_keep, checkpoint_score_attribute)`` says how many of the best stay.
    """
    metric = _as_logged(args.metric_for_best_model)
    limit, best, greater = args.save_total_limit or None, int(metric is not None), bool(args.greater_is_better)
    ray_keeps = run.checkpoint_config if run is not None else None
    if ray_keeps is not None and ray_keeps.num_to_keep is not None:
        if ray_keeps.checkpoint_score_attribute is None:
            return Keep(min(limit or ray_keeps.num_to_keep, ray_keeps.num_to_keep), best, metric, greater)
        metric, best = _as_logged(ray_keeps.checkpoint_score_attribute), ray_keeps.num_to_keep
        greater, limit = ray_keeps.checkpoint_score_order == "max", best + (limit or 1)
    return Keep(limit, best, metric, greater)


def _as_logged(metric: str | None) -> str | None:
    return metric if metric is None or metric.startswith("eval_") else f"eval_{metric}"

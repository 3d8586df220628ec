"""Where a run's checkpoints are and which of them stay, from transformers' arguments and Ray Train's configuration."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray.train.constants import DEFAULT_STORAGE_PATH
from ray.train.v2.api.config import RunConfig

from raytrainer.checkpoints import Store, join, on_this_machine
from raytrainer.manifests import Manifest

if TYPE_CHECKING:
    from transformers import TrainingArguments


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay when a new one is there.

    Args:
        limit: how many in all, None for every one; the newest always stays.
        best: how many of the best ones stay whatever their age, the limit's part of them.
        metric: which metric tells the best, as evaluations name it.
        greater_is_better: whether a larger value is better.
    """

    limit: int | None = None
    best: int = 0
    metric: str | None = None
    greater_is_better: bool = False

    def ranked(self, manifests: Iterable[Manifest]) -> list[Manifest]:
        """Return those that have the metric, best first; of equals the older one."""
        if self.metric is None:
            return []
        sign = -1 if self.greater_is_better else 1
        having = [m for m in manifests if not math.isnan(m.metrics.get(self.metric, math.nan))]
        return sorted(having, key=lambda m: (sign * m.metrics[self.metric or ""], m.step))

    def superseded(self, manifests: list[Manifest], needed: int | None = None) -> list[Manifest]:
        """Return those that go, oldest first.

        Args:
            manifests: all checkpoints, oldest first.
            needed: step of one that stays, too, whatever its metrics; None for none.
        """
        manifests = [manifest for manifest in manifests if not manifest.pinned]
        if self.limit is None or not manifests:
            return []
        needed_here = [m for m in manifests if m.step == needed]
        kept = {m.step for m in [manifests[-1], *needed_here, *self.ranked(manifests)[: self.best]]}
        for manifest in reversed(manifests):
            if len(kept) >= self.limit:
                break
            kept.add(manifest.step)
        return [m for m in manifests if m.step not in kept]


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
    return folder.below("checkpoints") if has_storage(run) else folder


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

"""What is wrong with a plan and can be seen before a worker starts; ``train`` and ``check`` begin with it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from raytrainer import cluster
from raytrainer.arguments import field_values
from raytrainer.config.section import Trained
from raytrainer.elastic import batch_problems, global_batch, group_sizes
from raytrainer.errors import ArgumentsError, Problem, UserError
from raytrainer.launch.plan import Plan


def cheap_problems(planned: Plan) -> Iterator[Problem]:
    """Find what is wrong with a plan and can be seen without a worker; the cluster must be connected."""
    scaling = planned.scaling
    assert scaling is not None, "the cluster has been asked"
    values = field_values(planned.arguments)
    problems = list(batch_problems(planned.config.global_train_batch_size, scaling, values))
    yield from problems
    if not problems:
        examples = global_batch(planned.config.global_train_batch_size, scaling, values)
        try:
            cluster.check_supply(scaling, group_sizes(examples, scaling, values)[0])
        except UserError as error:
            yield from error.problems
    yield from _missing_files(planned.config)


def _missing_files(config: Trained) -> Iterator[Problem]:
    """Find local files that the config names and this machine does not have, though it has their folder.

    A folder that is not here may be on the workers.
    """
    data = getattr(config, "data", None)
    if data is None or isinstance(data, dict) or data.hub is not None:
        return
    for split in ("train", "eval", "test"):
        given = getattr(data, split)
        for path in [given] if isinstance(given, str) else given if isinstance(given, list) else []:
            whole = os.path.abspath(os.path.expanduser(path))
            pattern = any(sign in path for sign in "*?[") or "://" in path
            if not pattern and not os.path.exists(whole) and os.path.isdir(os.path.dirname(whole)):
                near = f"a file of {os.path.dirname(whole)}"
                yield Problem(f"data.{split}", path, "there is no such file", near)


def without_effect(planned: Plan) -> Iterator[str]:
    """Find settings that a run is right with and that do nothing."""
    keep = planned.config.run.keep
    if keep is not None and keep.best and planned.arguments.eval_strategy.value == "no":
        yield f"run.keep.best = {keep.best} does nothing: training.eval_strategy is no, so none is better than another"


def raise_cheap(planned: Plan) -> None:
    """Raise what :func:`cheap_problems` finds."""
    if problems := list(cheap_problems(planned)):
        raise ArgumentsError(*problems)

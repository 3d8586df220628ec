"""What a sweep's config comes to: the trials that a Ray Tune run is to have."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator
from typing import Any

from ray.train.v2.api.config import ScalingConfig

from raytrainer import cluster
from raytrainer.checkpoints import Store, join, on_this_machine
from raytrainer.config.schema import Script
from raytrainer.config.sweep import SweepLoaded
from raytrainer.launch.config_study import ConfigStudy
from raytrainer.launch.sending import send_code
from raytrainer.sweep.budget import Budget
from raytrainer.sweep.record_files import read_trials
from raytrainer.sweep.records import SweepRecord, seconds_ran
from raytrainer.sweep.runner import Sweep
from raytrainer.sweep.schedulers import scheduler
from raytrainer.sweep.searchers import searcher
from raytrainer.sweep.space import Space


def planned_sweep(sweep: SweepLoaded, folder: Store, before: SweepRecord | None, address: str | None) -> Sweep:
    """Connect to Ray, and return what is to be run: the trials that are not over.

    Args:
        sweep: its config.
        folder: the sweep's.
        before: the record of the sweep to go on with; None for a new one.
        address: the Ray cluster's; None for ``RAY_ADDRESS``, else a Ray of its own.

    Raises:
        UserError: a mistake that was found before the first trial.
    """
    storage = on_this_machine(sweep.base["run"]["storage_path"])
    asked, space = sweep.tune, Space.of(sweep.space)
    study = ConfigStudy(sweep, space, join(storage, "cache") if "task" in sweep.base else None)
    ends = list(ends_of(space))
    longest = _longest(sweep, study, ends)
    scheduling = scheduler(asked, space, longest, sweep.root)
    # Once before Ray is started, for what is wrong with it.
    searcher(asked, space, sweep.base, scheduling, 0, sweep.root)
    concurrent, apart = _connect(sweep, study, ends, address)
    # Once, and not by each trial: the folder may be large, and a trial's machine need not have it.
    study.sent = send_code(sweep.trial_config(study.complete(ends[0])))
    searching, sampled = searcher(asked, space, sweep.base, scheduling, concurrent or 0, sweep.root)
    ran = seconds_ran(before, read_trials(folder)) if before is not None else 0.0
    total = searching.total_samples if searching.total_samples < sys.maxsize else None
    return Sweep(
        study=study,
        folder=folder,
        record=dataclasses.replace(before, ended=None, state="running") if before else _record(sweep, space),
        space=sampled,
        search=searching,
        scheduler=scheduling,
        trials=total,
        max_concurrent=concurrent,
        max_failures=asked.max_failures,
        keep=asked.keep,
        budget=Budget(asked.budget.seconds, asked.budget.gpu_hours, asked.budget.patience, before=ran),
        apart=apart,
        travelling=study.travelling,
        code=study.sent.uri if study.sent else None,
        resume=before is not None,
    )


def ends_of(space: Space) -> Iterator[dict[str, Any]]:
    """Return samples from the ends of the space: everything at its first and at its last, and each value alone."""
    values = {one.key: list(one.values or one.ends) for one in space.parameters}
    for end in (0, -1):
        corner = {key: given[end] for key, given in values.items()}
        yield corner
        for key, given in values.items():
            yield from ({**corner, key: value} for value in given)


def _longest(sweep: SweepLoaded, study: ConfigStudy, ends: list[dict[str, Any]]) -> int | None:
    """Build the training arguments at the ends of the space, and return the steps of the longest trial if known.

    Raises:
        UserError: some do not go together.
    """
    steps = []
    for end in ends:
        config = sweep.trial_config(study.complete(end))
        if isinstance(config, Script):
            return None
        steps.append(study.planned(config).arguments.max_steps)
    return max(steps) if min(steps) > 0 else None


def _connect(
    sweep: SweepLoaded, study: ConfigStudy, ends: list[dict[str, Any]], address: str | None
) -> tuple[int | None, bool]:
    """Connect to Ray, and find out how many trials it has room for.

    Returns:
        How many trials run at a time, None where an autoscaler brings room and nobody knows how much; whether some have
        workers of their own, beside the trial's process.
    """

    def largest() -> ScalingConfig:
        return max((study.scaling(study.complete(end)) for end in ends), key=lambda scaling: scaling.max_workers)

    asked = sweep.tune.max_concurrent_trials
    wanted = asked if isinstance(asked, int) else 1
    cluster.connect(math.ceil(wanted * cluster.cpus(largest())), address)
    scaling = largest()  # which may follow from the cluster
    if missing := cluster.check_supply(scaling, scaling.max_workers):
        print(missing, file=sys.stderr, flush=True)
    apart = study.apart(scaling)
    room = cluster.room_for(scaling)
    if room is None:
        return (asked if isinstance(asked, int) else None), apart
    trials = room // scaling.max_workers
    return (min(asked, trials) if isinstance(asked, int) else trials), apart


def _record(sweep: SweepLoaded, space: Space) -> SweepRecord:
    asked = sweep.tune
    search, scheduling = asked.searching, asked.scheduling
    return SweepRecord(
        name=sweep.name,
        metric=asked.metrics,
        mode=list(asked.modes),
        scope=asked.scope,
        search={search[0]: search[1]},
        scheduler={scheduling[0]: scheduling[1]},
        seed=asked.seed,
        repeats=asked.repeats,
        space=space.describe(),
    )

"""run_sweep: the one place where a sweep becomes a Ray Tune run."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.train.v2.api.config import ScalingConfig
from ray.tune import Callback, Stopper
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial
from ray.tune.stopper import CombinedStopper

from raytrainer import cluster
from raytrainer.checkpoints import Store
from raytrainer.environment import environment
from raytrainer.errors import Interrupted
from raytrainer.job import travelling_variables
from raytrainer.sweep.budget import Budget
from raytrainer.sweep.overseer import Overseer
from raytrainer.sweep.record_files import folder_name, read_trials, write_sweep
from raytrainer.sweep.records import SweepRecord
from raytrainer.sweep.schedulers_population import Population
from raytrainer.sweep.standings import Standings
from raytrainer.sweep.study import Study
from raytrainer.sweep.telling import teller
from raytrainer.sweep.tracking import SweepTracking, told
from raytrainer.sweep.trial import trial_class
from raytrainer.sweep.view import View
from raytrainer.tracking import ui_command

# Ray Tune's own settings, unless the user set them.
_SETTINGS = {
    # It writes each result into three files, in the loop that serves all trials.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "10",
    # A trial that is stopped in the middle of a long step is killed after 600 s.
    "TUNE_FORCE_TRIAL_CLEANUP_S": "10",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Its own tables are not printed.
    "RAY_AIR_NEW_OUTPUT": "0",
}


@dataclass(frozen=True)
class Sweep:
    """What is swept, and how.

    Args:
        study: makes a run of each trial's values.
        folder: of the sweep.
        record: what was asked for, for sweep.json.
        space: what Ray Tune samples, by key; empty where the searcher knows.
        search: Ray Tune's searcher.
        scheduler: Ray Tune's scheduler.
        trials: how many in all, None where only the budget ends the sweep.
        max_concurrent: how many at a time at most, as the searcher has it; None for as many as have room.
        max_failures: how often a trial goes on after a failure.
        keep: of how many trials a checkpoint stays, the best ones'.
        budget: when there is enough.
        apart: whether trials may have workers of their own, beside their processes.
        callbacks: Ray Tune's, which are told what the overseer is told, after it.
        stop: ends single trials, or all, beside the budget; None for nothing.
        travelling: names of more variables that the trials get of this environment; ``X_*`` for all that begin so.
        code: the URI of a folder that Ray brings to the trials' processes; None where all machines have what they need.
        resume: whether to go on with what is in the folder.
        tracking: records it in MLflow, None for nowhere.
    """

    study: Study
    folder: Store
    record: SweepRecord
    space: dict[str, Any]
    search: Any
    scheduler: Any
    trials: int | None
    max_concurrent: int | None
    max_failures: int
    keep: int
    budget: Budget
    apart: bool
    callbacks: Sequence[Callback] = ()
    stop: Stopper | None = None
    travelling: Sequence[str] = ()
    code: str | None = None
    resume: bool = False
    tracking: SweepTracking | None = None


def run_sweep(sweep: Sweep) -> dict[int, str]:
    """Run a sweep's trials and wait for them.

    Args:
        sweep: what to run; Ray is connected.

    Returns:
        The errors of the trials that failed, by number.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM; ``raytrainer resume`` goes on.
    """
    now = time.time()
    times: dict[str, Any] = {"resumed": now, "earlier": sweep.budget.before} if sweep.resume else {"began": now}
    record = dataclasses.replace(sweep.record, **times, concurrency=sweep.max_concurrent or 0)
    write_sweep(sweep.folder, record)
    with told(sweep.tracking) as post:
        return _run(sweep, record, post)


def _run(sweep: Sweep, record: SweepRecord, post: Any) -> dict[int, str]:
    standings = Standings(record.mode[0], record.scope, sweep.keep, record.repeats)
    view = View(record.metric[0], sweep.trials, standings.best, sweep.budget.seconds)
    overseer = Overseer(
        folder=sweep.folder,
        metric=record.metric[0],
        standings=standings,
        budget=sweep.budget,
        view=view,
        complete=sweep.study.complete,
        scheduler=next(iter(record.scheduler), "fifo"),
        gpus=lambda values: gpus(sweep.study.scaling(values)),
        apart=sweep.apart,
        lent=sweep.scheduler.base.checkpoints if isinstance(sweep.scheduler.base, Population) else set,
        tell=teller(post),
    )
    if sweep.tracking is not None:
        view.say(f"MLflow: {ui_command(sweep.tracking.tracker)}")
    if sweep.resume:
        overseer.take_up(read_trials(sweep.folder), record)
    state, reason = "failed", None
    try:
        interrupted = _tune(sweep, overseer, post)
        state, reason = ("interrupted", None) if interrupted else ("finished", sweep.budget.exhausted)
    except KeyboardInterrupt:
        interrupted, state = True, "interrupted"
    finally:
        overseer.finish("stopped" if state == "finished" else "interrupted", reason)
        ended = dataclasses.replace(record, ended=time.time(), state=state, stopped_by=reason)
        write_sweep(sweep.folder, ended)
    if interrupted:
        raise Interrupted
    return overseer.failures


def gpus(scaling: ScalingConfig) -> float:
    """Return the GPUs of all workers together."""
    return float(scaling.max_workers * cluster.worker_resources(scaling).get("GPU", 0.0))


def _tune(sweep: Sweep, overseer: Overseer, post: Any) -> bool:
    """Run Ray Tune's loop, and tell whether Ctrl-C or SIGTERM ended it."""
    here = travelling_variables(sweep.travelling), os.getcwd(), [os.path.abspath(folder) for folder in sys.path]
    settings = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
    with environment(settings), quiet_ray(), _keys_stay(), _brought(sweep.code), _interrupts() as interrupted:
        tune.run(
            trial_class(sweep.study, sweep.folder, here, post),
            name="trials",
            storage_path=sweep.folder.shown,
            storage_filesystem=sweep.folder.filesystem,
            config=sweep.space,
            search_alg=sweep.search,
            scheduler=sweep.scheduler,
            stop=CombinedStopper(sweep.budget, sweep.stop) if sweep.stop else sweep.budget,
            max_failures=sweep.max_failures,
            callbacks=[overseer, *sweep.callbacks],
            # A process that is kept for the next trial would keep the workers of the one before.
            reuse_actors=not sweep.apart,
            raise_on_failed_trial=False,
            trial_dirname_creator=_folder_of,
            resume="AUTO+ERRORED" if sweep.resume else None,
            verbose=0,
        )
        return interrupted()


def _folder_of(trial: Trial) -> str:
    """Return the name of a trial's folder: its number, from 1."""
    return folder_name(int(trial.experiment_tag.partition("_")[0]))


@contextlib.contextmanager
def quiet_ray() -> Iterator[None]:
    """Let Ray Tune say nothing inside the block: what it has to say, the sweep's own view shows."""
    logger = logging.getLogger("ray.tune")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _keys_stay() -> Iterator[None]:
    """Let Ray Tune send no keys to the trials inside the block: it would write them into its logs."""
    names = {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(names)
    try:
        yield
    finally:
        class_cache.ENV_VARS_TO_PROPAGATE.update(names)


@contextlib.contextmanager
def _brought(code: str | None) -> Iterator[None]:
    """Have Ray bring a folder to the trials that are made inside the block: Ray Tune has no setting for it.

    Args:
        code: its URI; None for none.
    """
    if code is None:
        yield
        return
    cache: Any = class_cache._ActorClassCache
    get = cache.get

    def get_with_folder(self: Any, trainable: type) -> Any:
        made = get(self, trainable)
        made._default_options["runtime_env"]["working_dir"] = code
        return made

    cache.get = get_with_folder
    try:
        yield
    finally:
        cache.get = get


@contextlib.contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """End Ray Tune's loop in good order on the first Ctrl-C or SIGTERM inside the block, on another Ctrl-C at once.

    Yields:
        Tells whether there was one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False

    def interrupt(number: int, frame: Any) -> None:
        nonlocal asked
        if asked and number == signal.SIGTERM:
            return
        if asked:
            raise KeyboardInterrupt
        asked = True
        # For Ray Tune this signal, too, means to note where all trials are and to leave; it keeps Ctrl-C to itself.
        signal.raise_signal(signal.SIGUSR1)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers[:2]:
        signal.signal(number, interrupt)
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

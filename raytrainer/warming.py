"""warm_up: the workers of the trainer to come start while the program still loads its model and data."""

from __future__ import annotations

import logging
import sys
import tempfile
import threading
from typing import Any

import ray
from ray._private import worker
from ray._private.utils import set_sigterm_handler
from ray.train import RunConfig, ScalingConfig

from raytrainer import cluster
from raytrainer.early import Preparation
from raytrainer.group import Group, Plan
from raytrainer.job import OF_MLFLOW, ray_run, travelling_variables
from raytrainer.staying import expect
from raytrainer.where import on_driver
from raytrainer.worker import train_loop

_KEEP_S = 600.0


def warm_up(scaling_config: ScalingConfig | None = None, run_config: RunConfig | None = None) -> None:
    """Start Ray, where this program has none, and the workers that a trainer will ask for; return at once.

    Called before the program loads its model and data, it has the workers import torch and transformers meanwhile, so
    that training begins as soon as it is asked for. A trainer with other settings gets other workers, and these are
    let go, as they are after ten minutes. Workers whose number may change, and TPUs, do not start ahead. What keeps
    them from starting, the trainer's call says. A program that calls ``ray.init`` itself does so before this. Under
    torchrun, and on a Ray Train worker, nothing is done.

    Args:
        scaling_config: the trainer's; None for one worker a GPU of the cluster, else one CPU worker.
        run_config: the trainer's, where it has one.
    """
    if not on_driver():
        return

    def start() -> Group | None:
        # Of other classes than ray.train's annotations say.
        asked: Any = scaling_config
        given: Any = run_config
        cluster.connect(cluster.cpus(asked))
        scaling = asked or cluster.default_scaling()
        count = scaling.max_workers
        run = ray_run(given, _folder())
        preparation = Preparation(travelling_variables(OF_MLFLOW))
        plan = Plan(train_loop, scaling, [count], run, preparation, recoverable=True, tidied=False, waits=False)
        if not plan.lasting or cluster.check_supply(scaling, count) is not None:
            return None
        group = Group(plan)
        group.start()
        return group

    # What ray.init does by itself, but for a warning on another thread than the first.
    if threading.current_thread() is threading.main_thread() and not ray.is_initialized():
        set_sigterm_handler(lambda number, frame: sys.exit(number))
    logging.getLogger(worker.__name__).addFilter(lambda record: "SIGTERM handler is not set" not in record.getMessage())
    expect(start, _KEEP_S)


def _folder() -> str:
    """Return a folder for what Ray Train writes until there is a trainer, which is nothing; gone with this program."""
    folder = tempfile.TemporaryDirectory(prefix="raytrainer-")
    _folders.append(folder)
    return folder.name


_folders: list[tempfile.TemporaryDirectory[str]] = []

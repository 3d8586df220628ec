"""A script, as ``fit`` runs it."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.train.v2.api.config import RunConfig, ScalingConfig

from raytrainer.checkpoints import Store
from raytrainer.early import Preparation
from raytrainer.events import Evaluated
from raytrainer.job import travelling_variables
from raytrainer.ray_train import watches_preemptions
from raytrainer.run_record import ALLOW_CHANGES_VARIABLE, RESUME_VARIABLE
from raytrainer.script_order import ScriptOrder
from raytrainer.script_worker import script_loop
from raytrainer.sinks import Sink
from raytrainer.wire import Verdict

_SETS_VARIABLES = re.compile(r"environ|putenv|dotenv")


@dataclass(frozen=True)
class ScriptJob:
    """A script that runs as ``__main__`` on every worker of a group; see ``raytrainer.job.Work``.

    Args:
        target: the script's path, absolute, or the module's name.
        module: whether it is a module's name.
        arguments: the script's own.
        scaling: Ray Train's scaling configuration; None for one worker a GPU of the cluster, else one CPU worker.
        run: Ray Train's run configuration.
        directory: the folder the user started from.
        root: the folder that ``run`` sends to the workers; None where it sends none.
        node: id of the node that has these folders as they are; None for this process's.
        storage: the run's folder; None where everything stays where the script writes it.
        loss_scale: ``auto``, ``transformers``, or None to leave it and tell the user.
        sinks: who is told what happens, on the driver.
        judge: says what a trial of a sweep does after each evaluation; None for a run of its own.
        name: of the run, the same in every attempt.
        travelling: names of more variables that the workers get of this environment; ``X_*`` for all that begin so.
        system_metrics: whether MLflow's monitors watch the nodes.
        clone_of: the checkpoint of another trial that its training goes on from with its own arguments; None to begin.
    """

    target: str
    module: bool
    arguments: list[str]
    scaling: ScalingConfig | None
    run: RunConfig
    directory: str = field(default_factory=os.getcwd)
    root: str | None = None
    node: str | None = None
    storage: Store | None = None
    loss_scale: str | None = None
    sinks: list[Sink] = field(default_factory=list)
    judge: Callable[[Evaluated], Verdict] | None = None
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    clone_of: str | None = None
    travelling: Sequence[str] = ()
    system_metrics: bool = False
    _started: float = field(default_factory=time.time)

    @property
    def loop(self) -> Callable[[dict[str, Any]], None]:
        """What Ray Train runs on every worker."""
        return script_loop

    @property
    def preparation(self) -> Preparation:
        """What every worker does before anything else.

        A script that sets variables sets them for what it imports: before it comes torch only, as Ray Train needs it.
        """
        variables = travelling_variables(self.travelling)
        return Preparation(variables, ("torch",)) if self._sets_variables() else Preparation(variables)

    def _sets_variables(self) -> bool:
        """Tell whether the script may set environment variables itself; of a module nothing is known here."""
        try:
            text = Path(self.target).read_text(errors="replace")
        except OSError:
            return True
        return bool(_SETS_VARIABLES.search(text))

    @property
    def recoverable(self) -> bool:
        """Whether its trainings keep checkpoints."""
        return True

    @property
    def stays(self) -> bool:
        """Whether its workers wait for another: a script has ended its process's work."""
        return False

    def sizes(self, scaling: ScalingConfig) -> list[int]:
        """Return the one number of workers: what a step's batch is, the script decides."""
        return [scaling.max_workers]

    def order(self, scaling: ScalingConfig) -> ScriptOrder:
        """Return what every rank is told."""
        resume = bool(os.environ.get(RESUME_VARIABLE))
        return ScriptOrder(
            target=self.target,
            module=self.module,
            arguments=self.arguments,
            directory=self.directory,
            root=self.root,
            node=self.node or ray.get_runtime_context().get_node_id(),
            storage=self.storage,
            run=self.name,
            # What an earlier run has left belongs to the one that goes on with it.
            started=0.0 if resume else self._started,
            resume=resume,
            allow_changes=bool(os.environ.get(ALLOW_CHANGES_VARIABLE)),
            preemptions=watches_preemptions(scaling),
            paced=self.judge is not None,
            clone_of=self.clone_of,
            loss_scale=self.loss_scale,
            use_cpu=not scaling.use_gpu,
            environment=travelling_variables(self.travelling),
            system_metrics=self.system_metrics,
        )

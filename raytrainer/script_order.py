"""What every rank is told that runs a script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytrainer.checkpoints import Store


@dataclass(frozen=True)
class ScriptOrder:
    """What every rank is told that runs a script.

    Args:
        target: the script's path, absolute, or the module's name.
        module: whether it is a module's name.
        arguments: the script's own.
        directory: the folder the user started from.
        root: the folder that was sent to machines that lack it, one that holds ``target``; None where nothing was.
        node: id of the driver's node, which has the folders as they are.
        storage: the run's folder; None where everything stays where the script writes it.
        run: name of this run, the same in every attempt.
        started: when the driver started it, in seconds since the Unix epoch; files that are older are not the run's.
        resume: whether a training goes on from what an earlier run left.
        allow_changes: whether to do so with another model, other data or another sample order.
        preemptions: whether Ray Train watches for nodes that go away.
        paced: whether its training waits for a verdict after every evaluation, as a trial of a sweep does.
        clone_of: the checkpoint of another trial that its training goes on from with its own arguments; None to begin.
        loss_scale: ``auto``, ``transformers``, or None to leave it and tell the user.
        use_cpu: whether the workers have no accelerator.
        environment: environment variables that the workers get.
        system_metrics: whether MLflow's monitors watch the nodes.
    """

    target: str
    module: bool
    arguments: list[str]
    directory: str
    root: str | None
    node: str
    storage: Store | None
    run: str
    started: float
    resume: bool
    allow_changes: bool
    preemptions: bool
    paced: bool
    clone_of: str | None
    loss_scale: str | None
    use_cpu: bool
    environment: dict[str, str]
    system_metrics: bool = False

"""What rank 0 tells the driver while a run goes on: small, plain, in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Phase:
    """A phase of the start-up ended on rank 0.

    Args:
        name: what was done, for example ``imports`` or ``model``.
        seconds: how long it took.
    """

    name: str
    seconds: float


@dataclass(frozen=True)
class ReadData:
    """A dataset that a training reads.

    Args:
        context: ``training`` or ``evaluation``.
        name: of the dataset, as far as it has one.
        digest: tells it from others: of its columns, its length and some of its rows.
        rows: how many, None for one without a length.
        source: where it came from, a path or a kind.
    """

    context: str
    name: str
    digest: str
    rows: int | None
    source: str


@dataclass(frozen=True)
class Began:
    """Training begins: what is known once the trainer stands on the workers.

    Args:
        step: optimizer steps already done (not 0 after a resume).
        max_steps: optimizer steps in all.
        world_size: number of workers.
        batch_size: examples an optimizer step, over all workers and accumulation.
        arguments: TrainingArguments as transformers used them, JSON types, secrets left out.
        model_config: the model's configuration, JSON types, empty for a model without one.
        precision: ``bf16``, ``fp16`` or ``fp32``.
        history: what transformers logged before ``step``, with the step of each: the last of it, after a resume.
        data: the datasets that it reads.
    """

    step: int
    max_steps: int
    world_size: int
    batch_size: int
    precision: str
    arguments: dict[str, Any] = field(default_factory=dict)
    model_config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    data: list[ReadData] = field(default_factory=list)


@dataclass(frozen=True)
class Ended:
    """A training of a script has ended, and the script goes on."""


@dataclass(frozen=True)
class Logged:
    """transformers logged: training metrics, or those of an evaluation (names begin with ``eval_``).

    Args:
        step: optimizer steps done.
        max_steps: optimizer steps in all.
        epoch: epochs done, None outside training.
        metrics: name to number, as transformers names them.
        time: seconds since the Unix epoch, on the worker.
        samples_per_second: training examples a second over all workers since the last log, None when nothing
            was trained in between.
        tokens_per_second: the same for the tokens of a text model's inputs, padding included; None without any.
        memory_peak_bytes: of rank 0's GPU since the training began; without a GPU of its process since that began.
            None where the others are.
    """

    step: int
    max_steps: int
    epoch: float | None
    metrics: dict[str, float]
    time: float
    samples_per_second: float | None = None
    tokens_per_second: float | None = None
    memory_peak_bytes: int | None = None


@dataclass(frozen=True)
class Evaluated:
    """A trial of a sweep was evaluated, and waits for what to do.

    Args:
        step: optimizer steps done.
        max_steps: optimizer steps in all.
        epoch: epochs done.
        metrics: name to number, as transformers names them.
        time: seconds since the Unix epoch, on the worker.
        checkpoint: the address of the checkpoint that was asked for at this step, None where none was yet.
        last: whether the training ends with it, at its last step or because a callback says so.
    """

    step: int
    max_steps: int
    epoch: float | None
    metrics: dict[str, float]
    time: float
    checkpoint: str | None = None
    last: bool = False


@dataclass(frozen=True)
class Saved:
    """A checkpoint is in the storage, complete.

    Args:
        step: optimizer steps done.
        path: its folder or URI.
        size: bytes.
        seconds: from the save to the manifest, while training went on.
        stalled: seconds that training stood still for it.
        node: id of the node that rank 0 is on.
    """

    step: int
    path: str
    size: int
    seconds: float
    stalled: float
    node: str = ""


@dataclass(frozen=True)
class Measured:
    """What MLflow's monitors measured on a node.

    Args:
        metrics: name to number, as MLflow names them, with the node.
        time: seconds since the Unix epoch, on the worker.
    """

    metrics: dict[str, float]
    time: float


@dataclass(frozen=True)
class Note:
    """One line that the user should see once: a choice made, or a warning.

    Args:
        text: the line.
        warning: whether it tells of something that the user may want to change.
    """

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Printed:
    """What a script wrote.

    Args:
        stream: ``stdout`` or ``stderr``.
        data: the bytes, as they came; a line or a character may be cut.
    """

    stream: str
    data: bytes


Event = Phase | Began | Ended | Logged | Evaluated | Saved | Measured | Note | Printed

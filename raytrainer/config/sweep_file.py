"""What a sweep's file has beside a run's config: the space to search, and how it is searched."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from raytrainer.config.setting import Count, Duration, Section, Word, seconds

SEARCHES = ("random", "grid", "optuna", "hyperopt", "bohb", "ax")
SCHEDULERS = ("fifo", "asha", "hyperband", "bohb", "median_stopping", "pbt", "pb2", "resource_changing")
Two = Annotated[list[float], Field(min_length=2, max_length=2)]
Three = Annotated[list[float], Field(min_length=3, max_length=3)]
TwoWhole = Annotated[list[int], Field(min_length=2, max_length=2)]
ThreeWhole = Annotated[list[int], Field(min_length=3, max_length=3)]
Choices = Annotated[list[Any], Field(json_schema_extra={"minItems": 1})]
Mode = Literal["min", "max"]


class Swept(Section):
    """The values that a setting takes in a sweep: one of these kinds, and under which condition."""

    choice: Choices | None = None
    """One of a list."""
    uniform: Two | None = None
    """[lowest, highest]: a number between them."""
    loguniform: Two | None = None
    """[lowest, highest]: a number between them, every order of magnitude as likely as another."""
    quniform: Three | None = None
    """[lowest, highest, step]: a multiple of the step, both bounds included."""
    qloguniform: Three | None = None
    """[lowest, highest, step]: the same over orders of magnitude."""
    randint: TwoWhole | None = None
    """[lowest, end]: a whole number below the end."""
    lograndint: TwoWhole | None = None
    """[lowest, end]: the same over orders of magnitude."""
    qrandint: ThreeWhole | None = None
    """[lowest, highest, step]: a whole multiple of the step, both bounds included."""
    normal: Two | None = None
    """[mean, standard deviation] of a normal distribution."""
    qnormal: Three | None = None
    """[mean, standard deviation, step]: the same in multiples of the step."""
    grid: Choices | None = None
    """Every one of a list."""
    expr: Word | None = None
    """Not sampled, but computed from other keys: 256 // (scaling.num_workers * training.per_device_train_batch_size)"""
    when: Annotated[dict[str, Any], Field(min_length=1)] | None = None
    """Other keys and the value, or list of values, with which this one is there; else it is left out."""


KINDS = tuple(name for name in Swept.model_fields if name not in ("expr", "when"))
"""The kinds of what is sampled."""


class Budget(Section):
    """What the sweep may cost; it ends with whatever is used up first."""

    time: Duration | None = None
    """How long it may take, for example 30m, 2h, 1h30m, 90s."""
    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    """GPUs times hours, over all trials."""
    max_trials: Count | None = None
    """Trials at most, repeats counted."""
    patience: Count | None = None
    """End when this many trials in a row were no better than the best before them; repeats count as one."""

    @property
    def seconds(self) -> float | None:
        """How long the sweep may take, in seconds."""
        return None if self.time is None else seconds(self.time)


class Tune(Section):
    """How the space is searched."""

    metric: Word | Annotated[list[Word], Field(min_length=1)]
    """What trials are compared by, as transformers names it: eval_loss; a list for several objectives."""
    mode: Mode | Annotated[list[Mode], Field(min_length=1)]
    """Whether less or more of it is better; for several objectives a list of the same length."""
    scope: Literal["last", "best"] = "last"
    """Which evaluation of a trial counts."""
    num_samples: Count | Literal[-1] = 1
    """How often the space is sampled; each time every point of the grid is tried. -1: until the budget is used up."""
    search: Word | dict[str, dict[str, Any]] = "random"
    """Who proposes configurations: random, grid, optuna, hyperopt, bohb, ax; {name: {options}} for its options."""
    scheduler: Word | dict[str, dict[str, Any]] = "fifo"
    """Who stops trials: fifo (nobody), asha, hyperband, bohb, median_stopping, pbt, pb2, resource_changing; or
    {name: {options}}."""
    max_concurrent_trials: Literal["auto"] | Count = "auto"
    """How many trials run at a time; auto: as many as the cluster has room for."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """The same seed gives the same trials."""
    repeats: Count = 1
    """How often each configuration is trained, with another training seed each time; their mean counts."""
    points: list[dict[str, Any]] = []
    """Configurations to try first, each a mapping of keys to values."""
    max_failures: Annotated[int, Field(ge=-1)] = 0
    """How often a trial goes on from its checkpoint after a failure; -1 for always."""
    keep: Annotated[int, Field(ge=0)] = 1
    """How many checkpoints stay, the best ones over all trials."""
    refit: bool = False
    """Train the best configuration once more at the end, on training and evaluation data together."""
    baseline: bool = False
    """Try the base as it is first."""
    budget: Budget = Budget()
    """When the sweep ends, whatever num_samples says."""

    @property
    def searching(self) -> tuple[str, dict[str, Any]]:
        """The search's name and its options."""
        return named(self.search)

    @property
    def scheduling(self) -> tuple[str, dict[str, Any]]:
        """The scheduler's name and its options."""
        return named(self.scheduler)

    @property
    def metrics(self) -> list[str]:
        """What trials are compared by, one or several."""
        return self.metric if isinstance(self.metric, list) else [self.metric]

    @property
    def modes(self) -> list[Mode]:
        """For each metric, whether less or more of it is better."""
        return self.mode if isinstance(self.mode, list) else [self.mode]


def named(said: str | dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of what is said as a name or as {name: {options}}."""
    return (said, {}) if isinstance(said, str) else next(iter(said.items()))


class Sweep(Section):
    """The two sections that make a run's config a sweep."""

    search_space: Annotated[dict[str, Swept], Field(min_length=1)]
    """Settings with dots between the levels (training.learning_rate), and what values each takes."""
    tune: Tune
    """How the space is searched."""

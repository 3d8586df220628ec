"""Driver: the call's search space and searcher, held against the trainer before anything is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter, Repeater, Searcher, create_searcher
from transformers.trainer_utils import default_hp_space_optuna, default_hp_space_ray

from raytrainer.arguments import field_values, rebuild
from raytrainer.errors import ArgumentsError, Problem, UserError, unknown_name
from raytrainer.searching.goals import Goals
from raytrainer.searching.models import Drawn, Searched, samples_of
from raytrainer.searching.names import Names, wrong_values
from raytrainer.searching.options import Options
from raytrainer.searching.spaces import DefineByRun, Domains, HpSpace
from raytrainer.sweep.needs import require
from raytrainer.sweep.study import trial_settings
from raytrainer.sweep.suggestions import Model

if TYPE_CHECKING:
    from raytrainer.searching.search import Asked, Subject


@dataclass(frozen=True)
class Drawing:
    """What draws the values of the trials.

    Args:
        name: of the search algorithm.
        model: the algorithm.
        space: how each name's range is spelt.
        trials: how many there are at most.
    """

    name: str
    model: Model
    space: dict[str, str]
    trials: int


def drawing(asked: Asked, options: Options, goals: Goals, names: Names, subject: Subject) -> Drawing:
    """Build what draws values, when all that it can draw has been tried on the training arguments.

    Raises:
        UserError: something does not fit.
    """
    count = samples_of(asked.n_trials)

    def check(values: Mapping[str, Any]) -> None:
        if problems := list(names.unknown(values, subject.model_init)):
            raise ArgumentsError(*problems)

    space: Any
    if (backend := _backend(asked)) == "optuna":
        require("backend", "optuna")
        if options.search_alg is not None:
            fix = "backend='ray', or sampler=one of Optuna's"
            raise ArgumentsError(Problem("search_alg", options.search_alg, "Optuna draws the values", fix))
        space = DefineByRun(asked.hp_space or default_hp_space_optuna, check)
    else:
        if options.sampler is not None:
            raise ArgumentsError(Problem("sampler", options.sampler, "it is one of Optuna's", "backend='optuna'"))
        space = Domains((asked.hp_space or default_hp_space_ray)(None))
        check(space.space)
    _try_ends(space, names, subject)
    described = space.describe()
    if backend == "optuna":
        return Drawing("optuna", _optuna(space, options, goals), described, count)
    searcher = _searcher(options.search_alg)
    if searcher is None:
        model = Drawn(space, options.seed)
        return Drawing("random", model, described, count * space.grid_size)
    name = type(searcher.searcher if isinstance(searcher, ConcurrencyLimiter) else searcher).__name__
    return Drawing(name, Searched(searcher, space, goals, options.seed), described, count)


def _backend(asked: Asked) -> str:
    """Return which of transformers' backends is meant; without a word, the one that the space is written for."""
    backend = getattr(asked.backend, "value", asked.backend)
    if backend is None:
        try:
            (asked.hp_space or default_hp_space_ray)(None)
        except AttributeError as error:
            return "optuna" if str(error.name).startswith("suggest_") else "ray"
        return "ray"
    if backend == "wandb":
        reason = "Weights & Biases' own agent starts trials, one after the other in this process"
        raise ArgumentsError(Problem("backend", backend, reason, "'ray' or 'optuna'; report_to='wandb' for the logs"))
    if backend not in ("ray", "optuna"):
        fix = unknown_name(str(backend), ["ray", "optuna"])
        raise ArgumentsError(Problem("backend", backend, "there is no such backend", fix))
    return str(backend)


def _try_ends(space: HpSpace, names: Names, subject: Subject) -> None:
    """Build the training arguments at the ends of the space.

    Raises:
        ArgumentsError: with one problem a name.
    """
    base, found = field_values(subject.given), dict[str, Problem]()
    for end in space.ends():
        values = {name: value for name, value in names.fitted(end).items() if name in names.fields}
        wrong = wrong_values(values, subject.given)
        for name, problem in wrong.items():
            found.setdefault(name, problem)
        if wrong or found:
            continue
        try:
            changes = {**values, **trial_settings({**base, **values})}
            subject.check(rebuild(type(subject.given), base, **changes))
        except UserError:
            raise
        except (ValueError, TypeError, ImportError, KeyError) as error:
            fix = "values that transformers takes together"
            found.setdefault("", Problem("hp_space", values, str(error), fix))
    if found:
        raise ArgumentsError(*found.values())


def _optuna(space: DefineByRun, options: Options, goals: Goals) -> Model:
    import optuna

    from raytrainer.sweep.searchers_optuna import Optuna

    kind = optuna.samplers.NSGAIISampler if len(goals.modes) > 1 else optuna.samplers.TPESampler
    sampler: Any = kind(seed=options.seed) if options.sampler is None else options.sampler
    if not isinstance(sampler, optuna.samplers.BaseSampler):
        fix = "optuna.samplers.TPESampler(seed=42)"
        raise ArgumentsError(Problem("sampler", sampler, f"it is a {type(sampler).__name__}, no sampler", fix))
    return Optuna(space, sampler, goals.metrics, goals.modes, [], [])  # type: ignore[arg-type]  # it suggests, no more


def _searcher(asked: Any) -> Searcher | None:
    """Return the user's searcher, None for random values."""
    if isinstance(asked, str):
        try:
            asked = create_searcher(asked)
        except (ValueError, TypeError, AssertionError, ImportError) as error:
            fix = "a searcher of ray.tune.search: OptunaSearch(), HyperOptSearch()"
            raise ArgumentsError(Problem("search_alg", asked, str(error).splitlines()[0], fix)) from error
        asked = None if isinstance(asked, BasicVariantGenerator) else asked
    if asked is None:
        return None
    if isinstance(asked, BasicVariantGenerator):
        reason, fix = "random values are what there is without it", "seed=..., max_concurrent_trials=..., no search_alg"
        raise ArgumentsError(Problem("search_alg", type(asked).__name__, reason, fix))
    if isinstance(asked, Repeater):
        reason = "repeats of the same values and the same seed are the same trial"
        raise ArgumentsError(
            Problem("search_alg", "Repeater", reason, "'seed': tune.grid_search([1, 2, 3]) in hp_space")
        )
    if not isinstance(asked, Searcher):
        fix = "a searcher of ray.tune.search: OptunaSearch(), HyperOptSearch()"
        raise ArgumentsError(Problem("search_alg", asked, f"it is a {type(asked).__name__}, no searcher", fix))
    return asked

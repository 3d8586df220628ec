"""A sweep, loaded: a run's config, the space that is searched around it, and how; checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from raytrainer.config.checking import mistakes
from raytrainer.config.loading import read
from raytrainer.config.overrides import COMMAND_LINE
from raytrainer.config.resolved import written
from raytrainer.config.sweep_base import OWN, Base
from raytrainer.config.sweep_file import Sweep, Tune
from raytrainer.config.sweep_reading import read_space
from raytrainer.config.sweep_rules import RULES
from raytrainer.config.sweep_rules_space import of_space
from raytrainer.config.sweep_space import SearchSpace
from raytrainer.config.sweep_trials import Trials
from raytrainer.config.sweep_values import node_of
from raytrainer.config.tree import Node, Path, Place
from raytrainer.config.view import View, findings
from raytrainer.errors import ConfigError, Problem

__all__ = ["SweepLoaded", "Tune", "load_sweep"]

_MAY_CHANGE = ("num_samples", "max_concurrent_trials", "keep", "refit", "budget")
"""Of ``tune``, what a sweep that goes on takes as the config has it now."""


@dataclass(frozen=True)
class SweepLoaded:
    """A sweep that is right, as far as can be known without the data and the model.

    Args:
        name: its name, and the one in ``base``.
        base: the run's config, nested plain values with defaults.
        space: what is searched.
        tune: how.
        said: the search space as it is written.
        run: the run's config with places.
        root: the whole file with places, for errors.
        secrets: what was written where an environment variable that may hold a password was put in, by path.
    """

    name: str
    base: dict[str, Any]
    space: SearchSpace
    tune: Tune
    said: dict[str, Any] = field(repr=False)
    run: Base = field(repr=False, compare=False)
    root: Node = field(repr=False, compare=False)
    secrets: Mapping[Path, str] = field(repr=False)

    def trial_config(self, values: Mapping[str, Any]) -> Any:
        """Make the run's config of a trial, checked.

        Args:
            values: completed values by key. A script gets training.X and params.X as flags; other configs leave
                params.X alone.

        Raises:
            ConfigError: with everything that is wrong.
        """
        return self.run.check({key: node_of(value, Place("in this trial")) for key, value in values.items()})

    def yaml(self) -> str:
        """Return the whole sweep as YAML that stands by itself and makes it again; secrets stay names of variables."""
        own = {"search_space": self.said, "tune": self.tune.model_dump()}
        return written({**self.base, **own}, self.secrets)

    def of_other_trials(self, before: bytes) -> list[str]:
        """Return the keys that make this sweep's trials other ones than those of the YAML that it was begun with."""
        was, now = _of_trials(yaml.safe_load(before)), _of_trials(yaml.safe_load(self.yaml()))
        return [key for key in {**was, **now} if was.get(key) != now.get(key)]


def load_sweep(path: str, overrides: Sequence[str] = ()) -> SweepLoaded:
    """Load a sweep and check it, with trials at the ends of the space.

    Args:
        path: the file.
        overrides: settings that count more than the file's: ``tune.num_samples=5``,
            ``search_space.training.learning_rate={uniform: [0, 1]}``, ``training.max_steps=100``.

    Raises:
        ConfigError: with everything that is wrong.
    """
    root, problems, unset = read(path, overrides)
    root = _named(_without_nulls(root), path)
    base = Base.of(root, unset)
    space, values, wrong = _checked(root, base, unset)
    if problems or wrong:
        raise _error([*problems, *wrong])
    tune = Tune.model_validate(root.value["tune"].plain())
    secrets = {at: node.written for at, node in root.walk() if node.written is not None}
    return SweepLoaded(values["name"], values, space, tune, root.value["search_space"].plain(), base, root, secrets)


def _of_trials(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Return by key what the searcher and the scheduler are made of: a sweep that is resumed has them as they were."""
    tune = {f"tune.{key}": value for key, value in sweep["tune"].items() if key not in _MAY_CHANGE}
    return tune | {f"search_space.{key}": said for key, said in sweep["search_space"].items()}


def _checked(
    root: Node, base: Base, unset: Mapping[Path, Problem]
) -> tuple[SearchSpace, dict[str, Any], list[Problem]]:
    """Hold a sweep's file against the schema, the rules, and trials that it can have."""
    found, broken = mistakes(Sweep, {key: root.value[key].plain() for key in OWN if key in root.value}, root)
    problems = [unset[at] for at in unset if at[0] in OWN] + [found[at] for at in found if at not in unset]
    view = View(root, broken | unset.keys(), {})
    if base.kind is None or ("search_space",) in found or "search_space" not in root.value:
        return SearchSpace(()), base.values, [*problems, *findings(RULES, view, root), *base.wrong]
    space, of_keys = read_space(root, broken | unset.keys(), base)
    left_out = root.value["search_space"].value.keys() - {one.key for one in space.entries}
    problems += [*of_keys, *findings([*RULES, *of_space(space, complete=not left_out)], view, root)]
    trials = Trials(root, base, space)
    problems += [problem for problem in trials.problems() if not _about(problem, left_out)]
    baseline = root.at(("tune", "baseline"))
    if baseline is not None and baseline.value is True:
        problems += base.wrong
    mended = bool(base.wrong) and not problems
    return space, base.around(space, trials.corner()) if mended else base.values, problems


def _error(problems: Sequence[Problem]) -> ConfigError:
    """Make the error of problems, each setting's first one."""
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.setting, problem)
    return ConfigError(*first.values())


def _about(problem: Problem, keys: Iterable[str]) -> bool:
    """Tell whether a problem is about what one of these keys would have set, had it been right."""
    setting = problem.setting.partition(" ")[0]
    return any(f"{key}.".startswith(f"{setting}.") or setting.startswith(f"{key}.") for key in keys)


def _without_nulls(root: Node) -> Node:
    """Take away the keys, and the kinds of keys, that a file on top has set to null."""
    space = root.value.get("search_space")
    if space is None or not isinstance(space.value, dict):
        return root
    kept = {}
    for key, node in space.value.items():
        if isinstance(node.value, dict):
            kept[key] = replace(node, value={kind: said for kind, said in node.value.items() if said.value is not None})
        elif node.value is not None:
            kept[key] = node
    return replace(root, value={**root.value, "search_space": replace(space, value=kept)})


def _named(root: Node, path: str) -> Node:
    """Give the run's config the sweep's name: the one in the sweep's own file, else the base's and -sweep."""
    name = root.value.get("name")
    if name is None or not isinstance(name.value, str) or name.place.source == path or name.place == COMMAND_LINE:
        return root
    return replace(root, value={**root.value, "name": replace(name, value=f"{name.value}-sweep")})

"""The options of a search algorithm or a scheduler, checked against the constructor that takes them."""

from __future__ import annotations

import functools
import inspect
import operator
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from pydantic import Field, ValidationError, create_model

from raytrainer.config.section import Section
from raytrainer.config.sweep_values import node_of
from raytrainer.config.tree import Node, Path, Place, dotted
from raytrainer.config.wording import nearest, problems_of
from raytrainer.errors import NOTHING, ConfigError, Problem

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Where:
    """Where an algorithm's options are: ``tune.search.optuna``, and the config as it was written.

    Args:
        path: keys from the config's root.
        root: the config with its places; None where it was not read from a file.
    """

    path: Path
    root: Node | None = None

    def __str__(self) -> str:
        return self.spell()

    def spell(self, *below: str) -> str:
        """Spell a setting, here or below, with its place where that is known."""
        path = (*self.path, *below)
        return dotted(path) if self.root is None else f"{dotted(path)} ({self.root.place_of(path)})"

    def refuse(self, value: object, reason: str, fix: str, *below: str) -> NoReturn:
        """Raise an error with one problem, of the setting here or below.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(Problem(self.spell(*below), value, reason, fix))

    def lacks(self, reason: str, fix: str, *below: str) -> NoReturn:
        """Raise an error of something that has to be set.

        Raises:
            ConfigError: always.
        """
        self.refuse(NOTHING, reason, fix, *below)


@dataclass(frozen=True)
class Options:
    """What an algorithm can be told.

    Args:
        takes: its constructor; of its parameters those count that a config can hold.
        types: types of more than the constructor says, with bounds; options that only we know, too.
        ours: parameters that the sweep gives itself, each with where the user says it.
    """

    takes: Callable[..., Any]
    types: Mapping[str, Any] = field(default_factory=dict)
    ours: Mapping[str, str] = field(default_factory=dict)

    def known(self) -> dict[str, Any]:
        """Return the type of each option."""
        parameters = inspect.signature(self.takes).parameters.values()
        module = vars(sys.modules[self.takes.__module__])
        plain = {p.name: _plain(p.annotation, module) for p in parameters if p.name not in self.ours}
        return {**{name: kind for name, kind in plain.items() if kind is not None}, **self.types}

    def check(self, given: Mapping[str, Any], where: Where) -> dict[str, Any]:
        """Check options that were given.

        Returns:
            The same.

        Raises:
            ConfigError: an option is unknown, of another type, or out of bounds.
        """
        known = self.known()
        problems = [self._unknown(name, value, known, where) for name, value in given.items() if name not in known]
        make: Any = create_model
        right = {name: value for name, value in given.items() if name in known}
        model: Any = make("Options", __base__=Section, **{name: (known[name], ...) for name in right})
        for name in reversed(where.path):
            model = make("Above", **{str(name): (model, ...)})
        whole = _nested(where.path, right)
        root = where.root if where.root is not None and where.root.at(where.path) else node_of(whole, Place(""))
        try:
            model.model_validate(whole)
        except ValidationError as error:
            found, _ = problems_of(error.errors(), model, root)
            problems += [Problem(p.setting.removesuffix(" ()"), p.value, p.reason, p.fix) for p in found.values()]
        if problems:
            raise ConfigError(*problems)
        return dict(given)

    def _unknown(self, name: str, value: object, known: Mapping[str, Any], where: Where) -> Problem:
        algorithm = where.path[-1]
        if name in self.ours:
            return Problem(where.spell(name), value, "the sweep sets it itself", self.ours[name])
        near, listed = nearest(str(name), list(known)), f"the options of {algorithm} are {', '.join(sorted(known))}"
        fix = (f"{near}; {listed}" if near else listed) if known else f"nothing: {algorithm} has no options"
        return Problem(where.spell(str(name)), value, f"{algorithm} has no option {name}", fix)


def _plain(annotation: Any, module: Mapping[str, Any]) -> Any:
    """Return a type that a config can hold, without what it cannot; None where nothing is left."""
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, dict(module))  # what the constructor's own module says
        except NameError:  # something that is imported for type checkers only, and is no plain value
            return None
    if annotation in (bool, int, float, str) or get_origin(annotation) is Literal:
        return annotation
    if get_origin(annotation) in (Union, types.UnionType):
        members = [_plain(member, module) for member in get_args(annotation) if member is not type(None)]
        kept = [member for member in members if member is not None]
        return functools.reduce(operator.or_, kept) if kept and len(kept) == len(members) else None
    return None


def _nested(path: Path, values: Any) -> Any:
    for name in reversed(path):
        values = {name: values}
    return values

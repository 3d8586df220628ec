"""A search space as it is declared: what is sampled, what is computed from it, and under which conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from raytrainer.config.sweep_expressions import ExpressionError, evaluate, names_in
from raytrainer.config.sweep_file import KINDS
from raytrainer.config.sweep_parameter import Parameter, When, same
from raytrainer.errors import ConfigError, Problem, Seen


@dataclass(frozen=True)
class Expression:
    """A setting that is computed.

    Args:
        key: the setting, with dots.
        text: the expression; names in it are keys.
        when: the condition under which it is there.
        defaults: values of keys that neither the space nor a base may have.
    """

    key: str
    text: str
    when: When = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchSpace:
    """What is sampled, and what is computed from it.

    Args:
        parameters: what is sampled, in the order of the file.
        expressions: what is computed.
    """

    parameters: tuple[Parameter, ...]
    expressions: tuple[Expression, ...] = ()

    @property
    def entries(self) -> tuple[Parameter | Expression, ...]:
        """What is sampled, then what is computed."""
        return (*self.parameters, *self.expressions)

    def complete(self, sampled: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
        """Make a trial's values of what was sampled: without what is not there under the conditions, with expressions.

        Args:
            sampled: values of parameters by key.
            base: the base's config, nested, for the keys that only it has.

        Raises:
            ConfigError: an expression has no value with these.
        """
        values: dict[str, Any] = {}
        for one in self.ordered():
            if not is_there(one.when, values):
                continue
            if isinstance(one, Expression):
                values[one.key] = _computed(one, values, base)
            elif one.key in sampled:
                values[one.key] = one.plain(sampled[one.key])
        return {one.key: values[one.key] for one in self.entries if one.key in values}

    def ordered(self) -> Iterator[Parameter | Expression]:
        """Yield all of them, each after those that it depends on.

        Raises:
            graphlib.CycleError: some depend on each other.
        """
        by_key = {one.key: one for one in self.entries}
        graph = {key: [other for other in needs(one) if other in by_key] for key, one in by_key.items()}
        yield from (by_key[key] for key in TopologicalSorter(graph).static_order())


def needs(one: Parameter | Expression) -> list[str]:
    """Return the keys that a parameter or an expression depends on."""
    return [*one.when, *(names_in(one.text) if isinstance(one, Expression) else [])]


def is_there(when: When, values: Mapping[str, Any]) -> bool:
    """Tell whether a condition is true of values."""
    return all(key in values and any(same(values[key], value) for value in wanted) for key, wanted in when.items())


def _computed(expression: Expression, values: Mapping[str, Any], base: Mapping[str, Any]) -> Any:
    def value_of(key: str) -> Any:
        if key in values:
            return values[key]
        found: Any = base
        for step in key.split("."):
            if not (isinstance(found, Mapping) and step in found):
                return expression.defaults.get(key)
            found = found[step]
        return found

    try:
        return evaluate(expression.text, value_of)
    except ExpressionError as error:
        fix = "an expression that has a value for whatever is sampled"
        raise ConfigError(Problem(expression.key, Seen(expression.text), str(error), fix)) from None


def declared(space: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Any] | None = None) -> SearchSpace:
    """Make a search space of plain values that are right.

    Args:
        space: for each key ``{kind: bounds or values}``, or ``{"expr": text}``, and ``when``.
        defaults: values of keys that a base may not have, for expressions.
    """
    parameters: list[Parameter] = []
    expressions: list[Expression] = []
    for key, said in space.items():
        when = {other: tuple(v) if isinstance(v, list) else (v,) for other, v in (said.get("when") or {}).items()}
        if said.get("expr") is not None:
            own = {name: defaults[name] for name in names_in(said["expr"]) if defaults and name in defaults}
            expressions.append(Expression(key, said["expr"], when, own))
            continue
        kind = next(kind for kind in KINDS if said.get(kind) is not None)
        given = said[kind]
        if kind in ("choice", "grid"):
            parameters.append(Parameter(key, kind, values=tuple(given), when=when))
        else:
            step = given[2] if kind.startswith("q") else None
            parameters.append(Parameter(key, kind, bounds=(given[0], given[1]), quantum=step, when=when))
    return SearchSpace(tuple(parameters), tuple(expressions))

"""Driver: a search space as transformers' users write it: Ray Tune's domains, or a function that asks Optuna."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, Protocol

import numpy as np
from ray.tune.search.sample import Categorical, Domain, Float, Function, Integer, Normal, Quantized
from ray.tune.search.variant_generator import assign_value, generate_variants, parse_spec_vars

from raytrainer.errors import ArgumentsError, Problem


class HpSpace(Protocol):
    """What is searched."""

    def ends(self) -> Iterator[dict[str, Any]]:
        """Return samples from its ends: everything at its first and at its last, and each value alone."""

    def describe(self) -> dict[str, str]:
        """Return how the range of each name is spelt."""


class Domains:
    """A dictionary of Ray Tune's domains.

    Args:
        space: name to domain, grid or plain value; nested ones too.
    """

    def __init__(self, space: object) -> None:
        if not isinstance(space, Mapping):
            _no_dictionary(space, "a dictionary: {'learning_rate': tune.loguniform(1e-5, 1e-3)}")
        self.space: dict[str, Any] = dict(space)
        _, domains, grids = parse_spec_vars({"config": self.space})
        self._found = [*domains, *grids]
        self.grid_size = math.prod(len(grid.categories) for _, grid in grids)

    def sample(self, chance: np.random.RandomState) -> list[dict[str, Any]]:
        """Draw everything once; with grids once for each of their combinations."""
        return [variant["config"] for _, variant in generate_variants({"config": self.space}, random_state=chance)]

    def ends(self) -> Iterator[dict[str, Any]]:
        """Return samples from its ends."""
        values = {path: _values(domain) for path, domain in self._found if not isinstance(domain, Function)}
        for end in (0, -1):
            corner = {path: given[end] for path, given in values.items()}
            yield self._with(corner)
            for path, given in values.items():
                yield from (self._with({**corner, path: value}) for value in given)

    def describe(self) -> dict[str, str]:
        """Return how the range of each name is spelt."""
        said = {".".join(map(str, path[1:])): _spelt(domain) for path, domain in self._found}
        return {**{name: repr(value) for name, value in self.space.items() if not _within(name, said)}, **said}

    def _with(self, values: Mapping[tuple[Any, ...], Any]) -> dict[str, Any]:
        spec = {"config": copy.deepcopy(self.space)}
        for path, value in values.items():
            assign_value(spec, path, value)
        # What is left depends on the rest.
        (_, variant), *_ = generate_variants(spec, random_state=np.random.RandomState(0))
        config: dict[str, Any] = variant["config"]
        return config


class DefineByRun:
    """A function that asks an Optuna trial.

    Args:
        function: the user's.
        check: raises where a name that it returns is not one to be had.
    """

    def __init__(self, function: Callable[[Any], Any], check: Callable[[Mapping[str, Any]], None]) -> None:
        self._function, self._check = function, check

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Ask a trial of Optuna's for everything that is active.

        Raises:
            ArgumentsError: the function does not return names that can be set.
        """
        values = self._function(trial)
        if not isinstance(values, Mapping):
            _no_dictionary(values, "return {'learning_rate': trial.suggest_float(...)}")
        self._check(values)
        return dict(values)

    def ends(self) -> Iterator[dict[str, Any]]:
        """Return samples from its ends."""
        for end in (0, -1):
            probe = _Probe(end, {})
            yield self.suggest(probe)
            for name, given in list(probe.asked.items()):
                yield from (self.suggest(_Probe(end, {name: value})) for value in given)

    def describe(self) -> dict[str, str]:
        """Return how the range of each name is spelt, of those that are asked for at both ends."""
        spelt: dict[str, str] = {}
        for end in (0, -1):
            probe = _Probe(end, {})
            self.suggest(probe)
            spelt |= probe.spelt
        return spelt


class _Probe:
    """Stands in for an Optuna trial, and answers with an end of each range."""

    number = 0

    def __init__(self, end: int, fixed: Mapping[str, Any]) -> None:
        self._end, self._fixed = end, fixed
        self.asked: dict[str, list[Any]] = {}
        self.spelt: dict[str, str] = {}
        self.params: dict[str, Any] = {}
        self.user_attrs: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._answer(name, list(choices), f"choice {list(choices)}")

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> Any:
        return self._answer(name, [float(low), float(high)], _ends("float", low, high, step, log))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> Any:
        return self._answer(name, [low, high], _ends("int", low, high, step if step > 1 else None, log))

    def set_user_attr(self, key: str, value: Any) -> None:
        self.user_attrs[key] = value

    def _answer(self, name: str, values: list[Any], spelt: str) -> Any:
        self.asked[name], self.spelt[name] = values, spelt
        self.params[name] = self._fixed.get(name, values[self._end])
        return self.params[name]


def _values(domain: Domain) -> list[Any]:
    """Return the choices of a domain, or its ends."""
    if isinstance(domain, Categorical):
        return list(domain.categories)
    sampler: Any = domain.get_sampler()
    quantum = sampler.q if isinstance(sampler, Quantized) else None
    inner = sampler.get_sampler() if quantum else sampler
    if isinstance(inner, Normal):
        return [inner.mean]
    assert isinstance(domain, Float | Integer)
    low, high = domain.lower, domain.upper
    if quantum:
        low, high = math.ceil(low / quantum) * quantum, math.floor(high / quantum) * quantum
    elif isinstance(domain, Integer):
        high -= 1
    return [low, high]


def _spelt(domain: Domain) -> str:
    return f"{type(domain).__name__.lower()} {domain.domain_str}" if not domain.is_function() else "a function"


def _ends(kind: str, low: Any, high: Any, step: Any, log: bool) -> str:
    return f"{kind} ({low}, {high}{f', step {step}' if step else ''}{', log' if log else ''})"


def _within(name: Any, paths: Mapping[str, str]) -> bool:
    return any(path == str(name) or path.startswith(f"{name}.") for path in paths)


def _no_dictionary(value: object, fix: str) -> NoReturn:
    raise ArgumentsError(Problem("hp_space", value, f"it returned a {type(value).__name__}, no dictionary", fix))

"""Trials that a sweep can have, each held against the schema before the first one starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from raytrainer.config.sweep_base import Base
from raytrainer.config.sweep_parameter import Parameter
from raytrainer.config.sweep_space import SearchSpace
from raytrainer.config.sweep_values import node_of
from raytrainer.config.tree import Node, Path
from raytrainer.config.wording import seen, setting
from raytrainer.errors import ConfigError, Problem

Sample = dict[str, Node]
"""Sampled values by key, each where the file says it."""

_MOST_PRODUCTS = 1000
_WHOLE_KINDS = {"uniform": "randint", "loguniform": "lograndint", "quniform": "qrandint", "qloguniform": "qrandint"}


class Trials:
    """What is wrong with the trials of a sweep.

    Args:
        root: the sweep's whole file.
        base: the run's config in it.
        space: the search space.
    """

    def __init__(self, root: Node, base: Base, space: SearchSpace) -> None:
        self._root, self._base, self._space = root, base, space

    def problems(self) -> list[Problem]:
        """Return what is wrong, one problem a place.

        First each end of each range and each choice by itself, the others at their first and at their last; then, where
        these are right and there are not too many, every combination.
        """
        found: dict[str, Problem] = {}
        for samples in (self._one_by_one, self._all):
            for sample in samples():
                for problem in self.wrong(sample):
                    if problem.setting not in found:
                        found[problem.setting] = self._explained(problem, sample)
                if found and samples == self._all:
                    break
            if found:
                break
        return list(found.values())

    def wrong(self, sample: Sample) -> list[Problem]:
        """Return what is wrong with the trial that has these values."""
        try:
            self._config(sample)
        except ConfigError as error:
            return list(error.problems)
        return []

    def corner(self) -> Any:
        """Return the config of the trial that has the first value of everything."""
        return self._config(next(self._one_by_one()))

    def _config(self, sample: Sample) -> Any:
        try:
            values = self._space.complete({key: node.plain() for key, node in sample.items()}, self._base.values)
        except ConfigError as error:
            raise ConfigError(*(self._placed(problem) for problem in error.problems)) from None
        computed = {key: self._root.place_of(("search_space", key, "expr")) for key in values.keys() - sample.keys()}
        return self._base.check(
            {key: sample[key] if key in sample else node_of(value, computed[key]) for key, value in values.items()}
        )

    def _placed(self, problem: Problem) -> Problem:
        path: Path = ("search_space", problem.setting, "expr")
        return replace(problem, setting=setting(path, self._root), value=seen(self._root.at(path)))

    def _one_by_one(self) -> Iterator[Sample]:
        values = {one.key: self._values(one) for one in self._space.parameters}
        for end in (0, -1):
            corner = {key: given[end] for key, given in values.items()}
            yield corner
            for one in self._space.parameters:
                for value in values[one.key]:
                    yield {**corner, **self._reached(one, values), one.key: value}

    def _all(self) -> Iterator[Sample]:
        values = {one.key: self._values(one) for one in self._space.parameters}
        count = 1
        for given in values.values():
            count *= len(given)
        if count <= _MOST_PRODUCTS:
            yield from (dict(zip(values, combination, strict=True)) for combination in product(*values.values()))

    def _reached(self, one: Parameter, values: Mapping[str, list[Node]]) -> Sample:
        """Return values of other parameters with which one is there."""
        others = {other.key: other for other in self._space.parameters}
        reached: Sample = {}
        for key, wanted in one.when.items():
            reached |= self._reached(others[key], values)
            reached[key] = node_of(wanted[0], self._root.place_of(("search_space", one.key, "when", key)))
        return reached

    def _values(self, one: Parameter) -> list[Node]:
        said = self._root.at(("search_space", one.key, one.kind))
        assert said is not None
        # A choice as it is written, so that a secret stays one.
        return said.value if one.values else [node_of(end, said.value[at].place) for at, end in enumerate(one.ends)]

    def _explained(self, problem: Problem, sample: Sample) -> Problem:
        """Say with which other values it is wrong, and which kind gives whole numbers where those are wanted."""
        needed = dict(sample)
        for key in sample:
            fewer = {other: value for other, value in needed.items() if other != key}
            if any((p.setting, p.reason) == (problem.setting, problem.reason) for p in self.wrong(fewer)):
                needed = fewer
        key = problem.setting.partition(" ")[0]
        others = [f"{other} is {seen(node)!r}" for other, node in needed.items() if other != key]
        if others:
            problem = replace(problem, reason=f"{problem.reason}, where {' and '.join(others)}")
        one = next((one for one in self._space.parameters if one.key == key), None)
        if one is not None and one.kind in _WHOLE_KINDS and "a whole number" in problem.fix:
            return self._of_fractions(one)
        return problem

    def _of_fractions(self, one: Parameter) -> Problem:
        at: Path = ("search_space", one.key, one.kind)
        said = seen(self._root.at(at))
        reason = f"the setting is a whole number, and {one.kind} gives fractions, too"
        return Problem(setting(at, self._root), said, reason, f"{_WHOLE_KINDS[one.kind]}: {said}, in whole numbers")

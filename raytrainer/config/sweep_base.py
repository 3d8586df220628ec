"""The run's config that a sweep is around."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from raytrainer.config.checking import check
from raytrainer.config.hosted import training_fields
from raytrainer.config.schema import kind_of
from raytrainer.config.sweep_space import SearchSpace
from raytrainer.config.sweep_values import with_values
from raytrainer.config.tree import Node, Path
from raytrainer.errors import ConfigError, Problem

OWN = ("search_space", "tune")
"""The sections of a sweep's file that are not the run's."""


def is_sweep(root: Node) -> bool:
    """Tell whether a config is a sweep's."""
    return any(name in root.value for name in OWN)


@dataclass(frozen=True)
class Base:
    """The run's config in a sweep's file.

    Args:
        root: what is said, with places.
        kind: which kind of config it is; None for none.
        values: its settings, nested, with defaults; without them where something is wrong.
        wrong: what is wrong with it by itself. Values of the sweep may mend that.
        unset: what is wrong with its variables.
    """

    root: Node
    kind: str | None
    values: dict[str, Any]
    wrong: list[Problem]
    unset: Mapping[Path, Problem]

    @classmethod
    def of(cls, file: Node, unset: Mapping[Path, Problem]) -> Base:
        """Take it out of a sweep's file.

        Args:
            file: the file.
            unset: what is wrong with variables, by the setting that they are in.
        """
        root = replace(file, value={key: node for key, node in file.value.items() if key not in OWN})
        own = {at: problem for at, problem in unset.items() if at[0] not in OWN}
        plain = root.plain()
        try:
            values, wrong = check(root, [], own).model_dump(by_alias=True), []
        except ConfigError as error:
            values, wrong = plain, list(error.problems)
        return cls(root, kind_of(plain), values, wrong, own)

    def check(self, values: Mapping[str, Node]) -> Any:
        """Make the config of a trial.

        Args:
            values: what is put in, by key.

        Raises:
            ConfigError: with everything that is wrong.
        """
        assert self.kind is not None
        return check(with_values(self.root, self.kind, values), [], self.unset)

    def known(self) -> dict[str, Any]:
        """Return the settings by key."""
        return dict(_flat(self.values))

    def defaults(self) -> dict[str, Any]:
        """Return what transformers has for the training arguments that are not said."""
        fields = training_fields(self.kind in ("seq2seq", "trainer")) if self.kind != "script" else {}
        known = self.known()
        every = {f"training.{name}": field.default for name, field in fields.items() if field.has_default}
        return {key: value for key, value in every.items() if key not in known}

    def around(self, space: SearchSpace, config: Any) -> dict[str, Any]:
        """Return the settings of a base that is right only with sampled values: a trial's, without those values.

        Args:
            space: what is sampled.
            config: the trial's.
        """
        values: dict[str, Any] = config.model_dump(by_alias=True)
        for one in space.entries:
            *above, last = one.key.split(".")
            section: Any = values
            for step in above:
                section = section.get(step) if isinstance(section, dict) else None
            if isinstance(section, dict) and self.root.at(tuple(one.key.split("."))) is None:
                section.pop(last, None)
        return values


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        yield f"{above}{name}", value
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")

"""What a rule about several settings sees of a config: only settings that are right by themselves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from raytrainer.config.tree import Node, Path
from raytrainer.config.wording import seen, setting
from raytrainer.errors import Problem

Finding = tuple[Path, str, str]
"""The setting that is to be changed, the reason, and what to write instead."""


class View:
    """A config's settings, for rules.

    Args:
        root: what was written.
        broken: the settings that are wrong by themselves.
        defaults: the training arguments that count where nothing is written.
    """

    def __init__(self, root: Node, broken: Collection[Path], defaults: dict[str, Any]) -> None:
        self._root, self._broken, self._defaults = root, broken, defaults

    def __call__(self, *path: str, default: Any = None) -> Any:
        """Return a setting's value, or the default where it is not written.

        Raises:
            Untold: it is wrong by itself, or something in it is.
        """
        if any(path[: len(wrong)] == wrong[: len(path)] for wrong in self._broken):
            raise Untold
        node = self._root.at(path)
        return default if node is None else node.plain()

    def training(self, name: str) -> Any:
        """Return a training argument, as written or as transformers has it."""
        return self("training", name, default=self._defaults.get(name))

    def has(self, *path: str) -> bool:
        """Tell whether a setting is written and not null."""
        return self(*path) is not None


class Untold(Exception):
    """A rule cannot be held against settings that are wrong by themselves."""


Rule = Callable[[View], Iterator[Finding]]


def findings(rules: Collection[Rule], view: View, root: Node) -> Iterator[Problem]:
    """Hold rules against a config.

    Args:
        rules: each looks at one thing.
        view: what they see.
        root: what was written.
    """
    for rule in rules:
        try:
            for path, reason, fix in rule(view):
                yield Problem(setting(path, root), seen(root.at(path)), reason, fix)
        except Untold:
            continue

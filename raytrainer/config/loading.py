"""A config, loaded: its file, what that builds on, variables, the command line; checked; ready to be run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raytrainer.config.checking import check
from raytrainer.config.overrides import override
from raytrainer.config.resolved import resolved_yaml
from raytrainer.config.tree import Node, Path, dotted, merge
from raytrainer.config.variables import put_in
from raytrainer.config.yaml_file import read_file
from raytrainer.errors import ConfigError, Problem


@dataclass(frozen=True)
class Loaded:
    """A config that is right, as far as can be known without the data and the model.

    Args:
        config: one of the models of ``schema.py``.
        values: what was written, as plain values, without defaults.
        secrets: what was written where an environment variable that may hold a password was put in, by path.
    """

    config: Any
    values: dict[str, Any]
    secrets: Mapping[Path, str]

    def yaml(self) -> str:
        """Return the whole config as YAML that makes this run again; secrets stay names of variables."""
        return resolved_yaml(self.config, self.secrets)


def load_config(path: str, overrides: Sequence[str] = ()) -> Loaded:
    """Load a config and check it.

    Args:
        path: the file.
        overrides: settings that count more than the file's: ``key.sub=value``, the value in YAML.

    Raises:
        ConfigError: with everything that is wrong.
    """
    root, problems, unset = read(path, overrides)
    config = check(root, problems, unset)
    return Loaded(config, root.plain(), {at: node.written for at, node in root.walk() if node.written is not None})


def read(path: str, overrides: Sequence[str] = ()) -> tuple[Node, list[Problem], dict[Path, Problem]]:
    """Read a config without a check of what it says.

    Returns:
        The config with what it builds on and the settings of the command line; what was wrong with those settings; what
        was wrong with variables, by the setting that they are in.

    Raises:
        ConfigError: a file cannot be read.
    """
    problems: list[Problem] = []
    root = _built(path, (), problems, [])
    root, wrong = override(root, overrides)
    root, unset = put_in(root)
    return root, [*problems, *wrong], unset


def files_of(path: str) -> list[str]:
    """Return a config's file and those that it builds on, each counted from the one before it, as it is said there.

    Raises:
        ConfigError: one cannot be read.
    """
    files: list[str] = []
    _built(path, (), [], files)
    return files


def _built(
    path: str, above: tuple[str, ...], problems: list[Problem], files: list[str], said: tuple[str, Node] | None = None
) -> Node:
    """Read a file and what it builds on; ``above`` are the files that build on it, ``files`` gets what is read."""
    if os.path.realpath(path) in map(os.path.realpath, above):
        assert said is not None
        chain = " -> ".join([*above[[os.path.realpath(p) for p in above].index(os.path.realpath(path)) :], path])
        setting, node = said
        raise ConfigError(Problem(setting, node.value, f"the files build on each other: {chain}", "another file"))
    try:
        root = read_file(path)
    except ConfigError as error:
        if said is None or error.problems[0].setting != "CONFIG":
            raise
        setting, node = said
        fix = f"a path that counts from {os.path.dirname(above[-1]) or 'the folder'} of {os.path.basename(above[-1])}"
        raise ConfigError(Problem(setting, node.value, error.problems[0].reason, fix)) from None
    files.append(path)
    base = root.value.get("base")
    root = replace(root, value={key: node for key, node in root.value.items() if key != "base"})
    if base is None:
        return root
    base, unset = put_in(Node({"base": base}, base.place))
    problems.extend(unset.values())
    if unset:
        return root
    base = base.value["base"]
    below = Node({}, root.place)
    for number, node in enumerate(base.value if isinstance(base.value, list) else [base]):
        at: Path = ("base", number) if isinstance(base.value, list) else ("base",)
        setting = f"{dotted(at)} ({node.place})"
        if not isinstance(node.value, str) or not node.value:
            fix = "the path of a config file, or a list of such paths"
            problems.append(Problem(setting, node.plain(), "it is no path", fix))
            continue
        file = os.path.join(os.path.dirname(path), os.path.expanduser(node.value))
        below = merge(below, _built(file, (*above, path), problems, files, (setting, node)))
    return merge(below, root)

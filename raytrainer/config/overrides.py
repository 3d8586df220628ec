"""Settings on the command line: ``key.sub=value``, put over a config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raytrainer.config.sweep_file import Swept
from raytrainer.config.tree import Node, Place
from raytrainer.config.yaml_values import parse
from raytrainer.errors import ConfigError, Problem, Seen

COMMAND_LINE = Place("on the command line")


def override(root: Node, overrides: Sequence[str]) -> tuple[Node, list[Problem]]:
    """Put settings over a config, the last one on top.

    Args:
        root: the config, a mapping.
        overrides: each ``key.sub=value`` with a value in YAML.

    Returns:
        The config, and what is wrong with the overrides.
    """
    problems: list[Problem] = []
    for text in overrides:
        try:
            root = _put(root, *_parsed(text), text)
        except ConfigError as error:
            problems.extend(error.problems)
    return root, problems


def _parsed(text: str) -> tuple[list[str], Node]:
    key, equals, value = text.partition("=")
    keys = key.split(".")
    if not equals or not all(keys) or key != key.strip():
        raise _wrong(text, "it is no setting", "key=value or key.sub=value, without spaces around the =")
    if key == "base":
        raise _wrong(text, "what a config builds on stands in its file", f"a file with the line base: {value}")
    if not value.strip():
        raise _wrong(text, "it has no value", f"{key}=null for none, {key}='\"\"' for empty text")
    node = parse(value, f"{text} {COMMAND_LINE}", positions=False)
    if node.value is None and value.lstrip().startswith("#"):
        raise _wrong(text, "what follows a # is a comment in YAML", f"{key}='\"{value}\"'")
    return _of_space(keys, node) if keys[0] == "search_space" else keys, node


def _of_space(keys: list[str], value: Node) -> list[str]:
    """Keep the dots of a search space's keys: search_space, training.learning_rate, and perhaps a kind."""
    kind = len(keys) > 2 and keys[-1] in Swept.model_fields and not isinstance(value.value, dict)
    key, rest = (keys[1:-1], keys[-1:]) if kind else (keys[1:], [])
    return ["search_space", *([".".join(key)] if key else []), *rest]


def _put(node: Node, keys: list[str], value: Node, text: str) -> Node:
    if not keys:
        return _placed(value)
    if not isinstance(node.value, dict):
        above = text.partition("=")[0].split(".")[: -len(keys)]
        seen = Seen("a list") if isinstance(node.value, list) else node.value
        reason = f"{'.'.join(above)} ({node.place}) is no mapping, so nothing is below it"
        raise ConfigError(Problem(f"{text} ({COMMAND_LINE})", seen, reason, f"{'.'.join(above)}=... as a whole"))
    there = node.value.get(keys[0])
    key_place = there.key_place if there is not None and len(keys) > 1 else COMMAND_LINE
    below = _put(there or Node({}, COMMAND_LINE), keys[1:], value, text)
    return replace(node, value={**node.value, keys[0]: replace(below, key_place=key_place)})


def _placed(node: Node) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {key: replace(_placed(item), key_place=COMMAND_LINE) for key, item in value.items()}
    if isinstance(value, list):
        value = [_placed(item) for item in value]
    return replace(node, value=value, place=COMMAND_LINE)


def _wrong(text: str, reason: str, fix: str) -> ConfigError:
    return ConfigError(Problem("setting " + str(COMMAND_LINE), text, reason, fix))

"""A trial's config: a run's config with a sweep's values in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from raytrainer.config.tree import Node, Place
from raytrainer.errors import ConfigError, Problem


def node_of(value: Any, place: Place) -> Node:
    """Return a plain value as if it were said at a place."""
    if isinstance(value, dict):
        value = {key: replace(node_of(item, place), key_place=place) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        value = [node_of(item, place) for item in value]
    return Node(value, place)


def with_values(root: Node, kind: str, values: Mapping[str, Node]) -> Node:
    """Put a trial's values into a run's config.

    Args:
        root: the run's config.
        kind: which kind it is; a script gets the values as flags.
        values: by key; ``params.X`` reaches scripts only.

    Raises:
        ConfigError: the config has something else where a key leads.
    """
    flags: list[Node] = []
    for key, node in values.items():
        steps = key.split(".")
        if kind == "script" and steps[0] in ("training", "params"):
            flags += [Node(word, node.place) for word in flag(steps[1], node.plain())]
        elif steps[0] != "params":
            root = _put(root, steps, node, key)
    if not flags:
        return root
    args = root.value.get("args") or Node([], root.place)
    if not isinstance(args.value, list):
        return root
    return replace(root, value={**root.value, "args": replace(args, value=[*args.value, *flags])})


def flag(name: str, value: Any) -> list[str]:
    """Return a value as the words of a script's flag, as transformers' HfArgumentParser reads them.

    None has no words: the flag is left out, and so is an empty list.
    """
    if value is None or value == []:
        return []
    if isinstance(value, list):
        return [f"--{name}", *(_word(item) for item in value)]
    word = _word(value)
    # After a blank argparse takes -1e-05 for another flag.
    return [f"--{name}={word}"] if word.startswith("-") else [f"--{name}", word]


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _put(node: Node, steps: list[str], value: Node, key: str) -> Node:
    if not steps:
        return value
    below = node.value if node.value is not None else {}
    if not isinstance(below, dict):
        above = key.removesuffix("." + ".".join(steps))
        reason = f"{above} ({node.place}) is no mapping, so nothing is below it"
        raise ConfigError(Problem(f"{key} ({value.place})", value.plain(), reason, f"{above} as a whole"))
    there = below.get(steps[0])
    made = _put(there or Node({}, value.place), steps[1:], value, key)
    if len(steps) > 1 and there is not None:
        made = replace(made, key_place=there.key_place)
    return replace(node, value={**below, steps[0]: made})

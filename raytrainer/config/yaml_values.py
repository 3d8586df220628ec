"""YAML text as values, those of YAML 1.2, each with its place."""

from __future__ import annotations

import re
from typing import Any

import yaml

from raytrainer.config.tree import Node, Place
from raytrainer.config.yaml_errors import syntax, wrong
from raytrainer.errors import ConfigError

MOST_VALUES = 50_000
_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": re.compile(r"(?:~|null|Null|NULL|)"),
    "bool": re.compile(r"(?:true|True|TRUE|false|False|FALSE)"),
    "int": re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)"),
    "float": re.compile(
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))"
    ),
}
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]  # whichever of the two there is
    """PyYAML's parser with the resolver of YAML 1.2: ``1e-3`` is a number, ``on`` and ``2026-11-22`` are text."""

    yaml_implicit_resolvers: dict[Any, Any] = {}


for _name, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern.pattern})$"), None)
_Loader.add_implicit_resolver(_TAG + "merge", re.compile("<<$"), ["<"])


def parse(text: str, source: str, *, positions: bool = True) -> Node:
    """Make nodes of YAML text.

    Args:
        text: one YAML document.
        source: the file's name, or what else stands for it in errors.
        positions: whether lines and columns of the text mean something to the user.

    Raises:
        ConfigError: the text is not YAML, or YAML that a config has no use for.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise syntax(source, text, error, positions) from None
    except yaml.YAMLError as error:
        raise wrong(source, "...", f"it is not YAML: {error}", "text in YAML") from None
    except RecursionError:
        raise wrong(source, "...", "it is nested too deeply", "fewer levels") from None
    if root is None:
        return Node(None, Place(source, 1, 1) if positions else Place(source))
    try:
        return _Reading(source, positions).node(root, ())
    except RecursionError:
        raise wrong(source, "...", "it is nested too deeply", "fewer levels") from None


class _Reading:
    def __init__(self, source: str, positions: bool) -> None:
        self.source, self.positions, self.count = source, positions, 0

    def place(self, node: yaml.Node) -> Place:
        if not self.positions:
            return Place(self.source)
        return Place(self.source, node.start_mark.line + 1, node.start_mark.column + 1)

    def node(self, node: yaml.Node, above: tuple[int, ...]) -> Node:
        self.count += 1
        if self.count > MOST_VALUES:
            raise self.wrong(
                node, f"there are more than {MOST_VALUES} values, anchors counted where used", "fewer values"
            )
        if id(node) in above:
            raise self.wrong(node, "it contains itself", "an anchor that is used outside of what it names")
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return Node(self.mapping(node, above), self.place(node))
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return Node([self.node(item, above) for item in node.value], self.place(node))
        if isinstance(node, yaml.ScalarNode):
            return Node(self.scalar(node), self.place(node), quoted=node.style not in (None, ""))
        raise self.wrong(node, f"the tag {_spelt(node.tag)} is not for configs", "the value without the tag")

    def mapping(self, node: yaml.MappingNode, above: tuple[int, ...]) -> dict[Any, Node]:
        values: dict[Any, Node] = {}
        merged: dict[Any, Node] = {}
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                for part in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    given = self.node(part, above)
                    if not isinstance(given.value, dict):
                        raise self.wrong(part, "<< takes a mapping or a list of mappings", "<<: *name_of_a_mapping")
                    merged = {**given.value, **merged}
                continue
            name = self.scalar(key) if isinstance(key, yaml.ScalarNode) else None
            if isinstance(name, bool) or not isinstance(name, str | int) or (isinstance(name, int) and abs(name) > 1e9):
                raise self.wrong(key, "it is no name for a setting", "text before the colon, in quotes if need be")
            if name in values:
                first = values[name].key_place
                raise self.wrong(key, f"the key is there already, at {first}", "the key once")
            given = self.node(value, above)
            values[name] = Node(given.value, given.place, self.place(key), given.quoted)
        return {**merged, **values}

    def scalar(self, node: yaml.ScalarNode) -> Any:
        text = node.value
        kind = node.tag.removeprefix(_TAG)
        if kind in ("str", "merge"):
            return text
        if kind not in _SCALARS:
            raise self.wrong(node, f"the tag {_spelt(node.tag)} is not for configs", "the value without the tag")
        if not _SCALARS[kind].fullmatch(text) and not (kind == "float" and _SCALARS["int"].fullmatch(text)):
            raise self.wrong(node, f"it is not what its tag {_spelt(node.tag)} says", "the value without the tag")
        try:
            return _value(kind, text)
        except ValueError:
            raise self.wrong(node, "the number is too long", "a number of fewer digits") from None

    def wrong(self, node: yaml.Node, reason: str, fix: str) -> ConfigError:
        seen = node.value if isinstance(node, yaml.ScalarNode) else "..."
        return wrong(str(self.place(node)), seen, reason, fix)


def scalar(text: str) -> Any:
    """Return what a piece of text without quotes means in YAML: a number, true, false, null, or the text itself."""
    for kind, pattern in _SCALARS.items():
        if pattern.fullmatch(text) and len(text) < 1000:
            return _value(kind, text)
    return text


def _value(kind: str, text: str) -> Any:
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base)
    return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))


def _spelt(tag: str) -> str:
    return tag.replace(_TAG, "!!")

"""What a config file says, and where it says it: values with their places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

Path = tuple[str | int, ...]
"""Keys and list indices from the root to a value."""


@dataclass(frozen=True)
class Place:
    """Where something is said: a file, line and column (from 1), or the command line."""

    source: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.source, self.line, self.column) if part is not None)


@dataclass(frozen=True)
class Node:
    """A value, where it is said, and, of a mapping's value, where its key is."""

    value: Any
    """A scalar, a list of nodes, or a dictionary of nodes."""
    place: Place
    key_place: Place | None = None
    quoted: bool = False
    """Whether the file says that it is text, whatever it looks like."""
    written: str | None = None
    """The text as it was written, where it holds a variable whose value is nobody else's business."""

    def plain(self) -> Any:
        """Return the value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def at(self, path: Path) -> Node | None:
        """Return the node at a path; None where there is none."""
        node: Node | None = self
        for step in path:
            if node is None:
                break
            if isinstance(node.value, dict):
                node = node.value.get(step)
            elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
            else:
                node = None
        return node

    def place_of(self, path: Path) -> Place:
        """Return where the key of a path is, or of the nearest one above it that is there."""
        for end in range(len(path), 0, -1):
            node = self.at(path[:end])
            if node is not None:
                return node.key_place or node.place
        return self.place

    def walk(self, path: Path = ()) -> Iterator[tuple[Path, Node]]:
        """Yield every node below and including this one."""
        yield path, self
        if isinstance(self.value, dict | list):
            for step, node in self.value.items() if isinstance(self.value, dict) else enumerate(self.value):
                yield from node.walk((*path, step))


def merge(below: Node, above: Node) -> Node:
    """Put a config over the one that it builds on: mappings key by key, everything else as a whole."""
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return above
    values = dict(below.value)
    for key, node in above.value.items():
        values[key] = merge(values[key], node) if key in values else node
    return replace(above, value=values)


def dotted(path: Path) -> str:
    """Spell a path as it is written on the command line; list indices in brackets."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")

"""The fields of another package's dataclass, read from its source: importing transformers takes seconds."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union

_PLAIN: dict[str, Any] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "Path": str,
    "None": None,
    "dict": dict[str, Any],
    "list": list[Any],
}


@dataclass(frozen=True)
class HostField:
    """A field of a dataclass of another package.

    Args:
        name: its name.
        annotation: its type, as far as a YAML file can give one; Any where the source does not tell.
        help: what the package says of it.
        default: its default, a plain value.
        has_default: whether that is known.
    """

    name: str
    annotation: Any
    help: str
    default: Any
    has_default: bool


def host_fields(package: str, files: Sequence[str], name: str) -> dict[str, HostField]:
    """Read the fields of a dataclass, its parents' first, without importing its package.

    Args:
        package: the package.
        files: where in it the class, its parents and the enumerations of its fields may be.
        name: the class.

    Returns:
        The fields by name; none where the package is not installed or its source cannot be read.
    """
    classes = {found.name: found for file in files for found in _classes(package, file)}
    choices = {key: values for key, found in classes.items() if (values := _enumerated(found))}
    fields: dict[str, HostField] = {}
    for ancestor in _ancestry(name, classes):
        for statement in ancestor.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                field = _field(statement.target.id, statement, choices)
                if field is not None:
                    fields[field.name] = field
    return fields


def _classes(package: str, file: str) -> Iterator[ast.ClassDef]:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        try:
            tree = ast.parse((Path(folder) / file).read_bytes())
        except (OSError, SyntaxError, ValueError):  # a newer package, or one in an archive: nothing is known of it
            continue
        yield from (node for node in tree.body if isinstance(node, ast.ClassDef))


def _ancestry(name: str, classes: dict[str, ast.ClassDef]) -> list[ast.ClassDef]:
    if name not in classes:
        return []
    bases = [_last(base) for base in classes[name].bases]
    return [found for base in bases for found in _ancestry(base, classes)] + [classes[name]]


def _enumerated(found: ast.ClassDef) -> list[str]:
    if not any(_last(base).endswith("Enum") for base in found.bases):
        return []
    values = [statement.value for statement in found.body if isinstance(statement, ast.Assign)]
    return [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]


def _field(name: str, statement: ast.AnnAssign, enums: dict[str, list[str]]) -> HostField | None:
    given: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    if isinstance(statement.value, ast.Call) and _last(statement.value.func) == "field":
        for keyword in statement.value.keywords:
            if keyword.arg == "metadata" and isinstance(keyword.value, ast.Dict):
                pairs = zip(keyword.value.keys, keyword.value.values, strict=True)
                metadata = {str(_literal(key)): _literal(value) for key, value in pairs if key is not None}
            elif keyword.arg is not None:
                given[keyword.arg] = _literal(keyword.value)
    elif statement.value is not None:
        given["default"] = _literal(statement.value)
    if name.startswith("_") or given.get("init") is False or _last(statement.annotation) == "ClassVar":
        return None
    default = given.get("default", _UNKNOWN)
    annotation = _typed(statement.annotation, enums)
    choices = metadata.get("choices")
    if annotation is str and isinstance(choices, list | tuple):
        annotation = Literal[tuple(choices)]
    text = metadata.get("help")
    return HostField(name, annotation, text if isinstance(text, str) else "", default, default is not _UNKNOWN)


_UNKNOWN = object()


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return _UNKNOWN


def _last(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        return _last(node.value)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _typed(node: ast.expr, enums: dict[str, list[str]]) -> Any:
    """Return the type that an annotation means; Any for one that has something in it that YAML cannot give."""
    members = [_member(member, enums) for member in _alternatives(node)]
    if Any in members:
        return Any
    if any(getattr(member, "__origin__", None) is Literal for member in members):
        # transformers declares `SomeEnum | str` and takes the enumeration's values only.
        members = [member for member in members if member is not str] if _has_enum(node, enums) else members
    return Union[tuple(members)]  # noqa: UP007  # made of a list


def _alternatives(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _alternatives(ast.parse(node.value, mode="eval").body)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _alternatives(node.left) + _alternatives(node.right)
    if isinstance(node, ast.Subscript) and _last(node) in ("Union", "Optional"):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        none: list[ast.expr] = [ast.Constant(None)] if _last(node) == "Optional" else []
        return [found for part in inner for found in _alternatives(part)] + none
    return [node]


def _has_enum(node: ast.expr, enums: dict[str, list[str]]) -> bool:
    return any(_last(member) in enums for member in _alternatives(node))


def _member(node: ast.expr, enums: dict[str, list[str]]) -> Any:
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    name = _last(node)
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "Literal":
            values = [_literal(part) for part in inner]
            # A choice such as pissa_niter_[number of iters] stands for many.
            many = any(isinstance(value, str) and "[" in value for value in values)
            return Any if _UNKNOWN in values else str if many else Literal[tuple(values)]
        if name in ("list", "List", "Sequence", "Iterable") and len(inner) == 1:
            return list[_typed(inner[0], enums)]  # type: ignore[misc]  # made of a value
        if name in ("dict", "Dict", "Mapping") and len(inner) == 2:
            return dict[Any, _typed(inner[1], enums)]  # type: ignore[misc]  # made of a value
        return Any
    if name in enums:
        return Literal[tuple(enums[name])]
    return _PLAIN.get({"Dict": "dict", "List": "list"}.get(name, name), Any)

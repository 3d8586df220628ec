"""What the schema finds wrong, in plain words: one problem a place."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from raytrainer.config.tree import Node, Path, dotted
from raytrainer.errors import NOTHING, Problem, Seen

Schema = Mapping[str, Any]
Problems = dict[Path, Problem]
_MOST_SHOWN = 12
_RANGE = "it is out of range"


def problems_of(errors: Iterable[ErrorDetails], model: type[BaseModel], root: Node) -> tuple[Problems, set[Path]]:
    """Return one problem for each place that errors of a model's validation name.

    Returns:
        The problems, and the settings of which nothing is known: those places, and what misspelt ones were to be.
    """
    found: dict[Path, ErrorDetails] = {}
    for error in errors:
        found.setdefault(_place(error, root), error)
    schema = model.model_json_schema(by_alias=True)
    # A value that fits no member of a union has an error for each: the one that came furthest tells most.
    places = [at for at in found if not any(other != at and other[: len(at)] == at for other in found)]
    meant = {at: _meant(at, schema) for at in places if found[at]["type"] == "extra_forbidden"}
    told = [at for at in places if at not in meant.values()]
    return {at: _problem(at, found[at], schema, root) for at in told}, {*told, *filter(None, meant.values())}


def setting(path: Path, root: Node) -> str:
    """Spell a setting with where it is, or where it should be."""
    place = root.place_of(path)
    return f"{dotted(path)} ({place})" if path else str(place)


def seen(node: Node | None) -> Seen:
    """Show a value as YAML has it; of a secret the name of its variable."""
    if node is None:
        return NOTHING
    if node.written is not None:
        return Seen(node.written)
    text = json.dumps(_hidden(node), ensure_ascii=False)
    return Seen(text if len(text) <= 100 else text[:97] + "...")


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that a misspelt one is most like; None where it is like none."""
    lower = {other.lower(): other for other in known}
    very = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.8)
    begun = [other for other in lower if len(name) > 2 and other.startswith(name.lower())]
    somewhat = difflib.get_close_matches(name.lower(), lower, n=1)
    close = very or begun or somewhat
    return lower[close[0]] if close else None


def kind(value: Any) -> str:
    """Say what a value is, in YAML's terms."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "a mapping")


def _hidden(node: Node) -> Any:
    if node.written is not None:
        return node.written
    if isinstance(node.value, dict):
        return {str(key): _hidden(item) for key, item in node.value.items()}
    if isinstance(node.value, list):
        return [_hidden(item) for item in node.value]
    return node.value


def _place(error: ErrorDetails, root: Node) -> Path:
    """Drop what pydantic puts between: the names of a union's members."""
    path: Path = ()
    last = len(error["loc"]) - 1
    for number, step in enumerate(error["loc"]):
        if root.at((*path, step)) is not None or (number == last and error["type"] == "missing"):
            path = (*path, step)
    return path


def _problem(path: Path, error: ErrorDetails, schema: Schema, root: Node) -> Problem:
    node = root.at(path)
    where = setting(path, root)
    if error["type"] == "missing":
        return Problem(where, NOTHING, "it has to be set", f"{path[-1]}: {expected(schema, path)}")
    if error["type"] == "invalid_key" or error["loc"][-1] == "[key]":
        return Problem(where, Seen(f"{path[-1]}:"), "the name is a number, and it has to be text", f'"{path[-1]}":')
    if error["type"] == "extra_forbidden":
        above, meant = dotted(path[:-1]), _meant(path, schema)
        reason = f"{above} has no setting {path[-1]}" if above else f"there is no setting {path[-1]}"
        return Problem(
            where, seen(node), reason, str(meant[-1]) if meant else f"one of {', '.join(_known(path, schema))}"
        )
    value = node.plain() if node is not None else None
    members = _members(_schema_at(schema, path, schema), schema)
    reason, fix = _reason(value, members), expected(schema, path)
    shown = node is None or node.written is None  # what a secret variable holds is not told
    if shown and isinstance(value, int | float) and any(_quoted(value, member) for member in members):
        fix = f"{fix}; in quotes it is text: {json.dumps(json.dumps(value))}" if reason != _RANGE else fix
    choices = [choice for member in members for choice in _choices(member)]
    near = nearest(value, choices) if isinstance(value, str) and choices else None
    if isinstance(value, str) and choices:
        reason = "it is none of the choices"
    if near:
        fix = near if len(choices) > _MOST_SHOWN else f"{near}; the choices are {', '.join(choices)}"
    return Problem(where, seen(node), reason, fix)


def _quoted(value: float, member: Schema) -> bool:
    """Tell whether a number is right as text."""
    return member.get("type") == "string" and re.search(member.get("pattern", ""), json.dumps(value)) is not None


def _known(path: Path, schema: Schema) -> list[str]:
    beside = _members(_schema_at(schema, path[:-1], schema), schema)
    return sorted({name for member in beside for name in member.get("properties", {})})


def _meant(path: Path, schema: Schema) -> Path | None:
    near = nearest(str(path[-1]), _known(path, schema))
    return None if near is None else (*path[:-1], near)


def _reason(value: Any, members: Sequence[Schema]) -> str:
    takes = {str(member.get("type")) for member in members}
    of_type = {bool: {"boolean"}, int: {"integer", "number"}, float: {"number"}, str: {"string"}, list: {"array"}}
    if value is None:
        return "it is null, and it needs a value"
    if takes & of_type.get(type(value), {"object"}):
        if isinstance(value, list):
            return f"it is a list of {len(value)}"
        return (
            _RANGE if isinstance(value, int | float) else "it is empty" if not value else "it is not of the right form"
        )
    return f"it is {kind(value)}"


def expected(schema: Schema, path: Path) -> str:
    """Say what a setting takes."""
    return _said(_schema_at(schema, path, schema), schema)


def _said(part: Schema, schema: Schema) -> str:
    parts = [_word(member, schema) for member in _members(part, schema)]
    return " or ".join(dict.fromkeys(parts)) or "another value"


def _word(part: Schema, schema: Schema) -> str:
    if choices := _choices(part):
        return ("one of " if len(choices) > 1 else "") + ", ".join(choices)
    match part.get("type"):
        case "null":
            return "null"
        case "boolean":
            return "true or false"
        case "integer" | "number":
            return ("a whole number" if part["type"] == "integer" else "a number") + _range(part)
        case "string":
            return str(part.get("x-form", "text"))
        case "array":
            count = part.get("minItems") if part.get("minItems") == part.get("maxItems") else None
            return f"a list{f' of {count}' if count else ''} (each {_said(part.get('items', {}), schema)})"
        case "object":
            names = ", ".join(part.get("properties", {}))
            return f"a mapping with {names}" if names and len(names) < 200 else "a mapping"
    return "another value"


def _range(part: Schema) -> str:
    bounds = []
    for key, words in [("minimum", "of at least"), ("exclusiveMinimum", "above"), ("maximum", "of at most")]:
        if key in part:
            bounds.append(f"{words} {json.dumps(part[key])}")
    if "exclusiveMaximum" in part:
        bounds.append(f"below {json.dumps(part['exclusiveMaximum'])}")
    return f" {' and '.join(bounds)}" if bounds else ""


def _choices(part: Schema) -> list[str]:
    values = part.get("enum", [part["const"]] if "const" in part else [])
    return [value if isinstance(value, str) else json.dumps(value) for value in values]


def _resolved(part: Schema, schema: Schema) -> Schema:
    while "$ref" in part:
        part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
    return part


def _members(part: Schema, schema: Schema) -> list[Schema]:
    part = _resolved(part, schema)
    return [m for member in part["anyOf"] for m in _members(member, schema)] if "anyOf" in part else [part]


def _schema_at(part: Schema, path: Path, schema: Schema) -> Schema:
    for step in path:
        below: Schema = {}
        for member in _members(part, schema):
            if isinstance(step, int) and "items" in member:
                below = member["items"]
            elif step in member.get("properties", {}):
                below = member["properties"][step]
            elif isinstance(member.get("additionalProperties"), dict):
                below = member["additionalProperties"]
        part = below
    return part

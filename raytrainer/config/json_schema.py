"""The JSON schema of config files, for editors."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from raytrainer.config.hosted import KINDS, checked
from raytrainer.config.schema import TASKS
from raytrainer.config.section import Common, Section
from raytrainer.config.sweep_file import Sweep

_BASE = {
    "description": "A config that this one builds on, or several, the last one on top; paths count from this file.",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}
_VARIABLE = {
    "description": "An environment variable.",
    "type": "string",
    "pattern": r"^\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}$",
}


def json_schema(sweep: bool = False) -> dict[str, Any]:
    """Return the JSON schema (Draft 2020-12) of config files, with the installed transformers' training arguments.

    A file with ``base:`` need not be whole. Where something else than text belongs, a variable may stand.

    Args:
        sweep: whether the files are of sweeps, which have ``search_space:`` and ``tune:`` beside a run's settings.
    """
    models: list[type[Section]] = [*(checked(kind) for kind in KINDS), *([Sweep] if sweep else [])]
    schemas, shared = models_json_schema([(model, "validation") for model in models], by_alias=True)
    wholes = shared["$defs"]
    names = {kind: schemas[checked(kind), "validation"]["$ref"].rsplit("/", 1)[1] for kind in KINDS}
    definitions = {name: _editable(part) for name, part in wholes.items()}
    own = definitions.pop(Sweep.__name__)["properties"] if sweep else {}
    for name in names.values():
        definitions[name]["properties"] |= {**own, "base": _BASE}
    every: dict[str, Any] = {setting: {} for name in names.values() for setting in definitions[name]["properties"]}
    common = {setting: definitions[names["script"]]["properties"][setting] for setting in Common.model_fields}
    definitions["Part"] = {"properties": {**every, **common, **own}, "additionalProperties": False}
    definitions["Variable"] = _VARIABLE
    tasks = {"enum": sorted(TASKS), "description": "What is to be trained."}
    branches = [_branch(kind, name, [*wholes[name]["required"], *own]) for kind, name in names.items()]
    some = {"anyOf": [{"required": [key]} for key in ("task", "trainer", "script")]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sweep of raytrainer" if sweep else "Config of raytrainer",
        "type": "object",
        "properties": {**every, "task": tasks},
        "allOf": [*branches, {"if": some, "else": {"$ref": "#/$defs/Part", "required": ["base"]}}],
        "$defs": definitions,
    }


def _branch(kind: str, name: str, required: list[str]) -> dict[str, Any]:
    given: dict[str, Any] = {"required": [kind]}
    if kind in TASKS:
        given = {"required": ["task"], "properties": {"task": {"const": kind}}}
    whole: dict[str, Any] = {"required": required}
    if kind in TASKS:
        whole["properties"] = {"data": {"required": ["train"]}}
    complete = {"if": {"not": {"required": ["base"]}}, "then": whole}
    return {"if": given, "then": {"$ref": f"#/$defs/{name}", **complete}}


def _editable(part: Any) -> Any:
    """Take variables where a file may have them, and leave what has to be set to the check of a whole config."""
    if isinstance(part, list):
        return [_editable(item) for item in part]
    if not isinstance(part, dict):
        return part
    made: dict[str, Any] = {}
    for key, value in part.items():
        if key == "properties":
            made[key] = {name: _editable(below) for name, below in value.items()}
        elif key not in ("title", "required"):
            made[key] = value if key in ("default", "enum") else _editable(value)
    if part.get("type") in ("integer", "number", "boolean") or "enum" in part or "const" in part:
        outer = {key: made.pop(key) for key in ("description", "default") if key in made}
        return {**outer, "anyOf": [made, {"$ref": "#/$defs/Variable"}]}
    return made

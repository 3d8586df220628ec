"""What a config says, held against the schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from raytrainer.config.combinations import BY_TASK, DATA, KEPT, SCRIPT, WORKERS
from raytrainer.config.combinations_training import SEQ2SEQ, TRAINING
from raytrainer.config.hosted import KINDS, RESERVED, checked, training_fields
from raytrainer.config.schema import TASKS, kind_of
from raytrainer.config.section import Common
from raytrainer.config.tree import Node, Path
from raytrainer.config.view import Rule, View, findings
from raytrainer.config.wording import nearest, problems_of, seen, setting
from raytrainer.errors import NOTHING, ConfigError, Problem


def check(root: Node, problems: list[Problem], unset: Mapping[Path, Problem]) -> Any:
    """Make a config of what was read.

    Args:
        root: what was read.
        problems: what is wrong already.
        unset: what is wrong with variables, by the setting that they are in.

    Raises:
        ConfigError: with these problems and all others.
    """
    values = root.plain()
    problems = [*problems, *unset.values()]
    kind = kind_of(values)
    if kind is None or len(_asked(values)) > 1:
        common = {key: value for key, value in values.items() if key in Common.model_fields}
        found, _ = mistakes(Common, common, root)
        rest = [] if ("task",) in unset else [_no_kind(root)]
        raise ConfigError(*problems, *rest, *(found[path] for path in found if path not in unset))
    found, broken = mistakes(checked(kind), values, root)
    for path in found:
        if path[0] == "training" and len(path) == 2:
            found[path] = _not_here(str(path[1]), kind, root) or found[path]
    problems += [found[path] for path in found if path not in unset]
    problems += findings(_rules(kind), View(root, broken | unset.keys(), _defaults()), root)
    if problems:
        raise ConfigError(*problems)
    return KINDS[kind].model_validate(values)


def _rules(kind: str) -> list[Rule]:
    rules = WORKERS + (SCRIPT if kind == "script" else KEPT)
    if kind in TASKS:
        rules += DATA + BY_TASK[kind]
    if kind != "script" and training_fields(seq2seq=True):
        rules += TRAINING
    return rules + (SEQ2SEQ if kind == "seq2seq" else [])


def _defaults() -> dict[str, Any]:
    return {name: field.default for name, field in training_fields(True).items() if field.has_default}


def _asked(values: dict[str, Any]) -> list[str]:
    return [name for name in ("task", "trainer", "script") if name in values]


def mistakes(model: type[BaseModel], values: dict[str, Any], root: Node) -> tuple[dict[Path, Problem], set[Path]]:
    """Hold values against a model.

    Args:
        model: the model.
        values: what it is to be made of.
        root: the same with places.

    Returns:
        The problems by place, and the settings of which nothing is known.
    """
    try:
        model.model_validate(values)
    except ValidationError as error:
        return problems_of(error.errors(include_url=False, include_context=False), model, root)
    return {}, set()


def _not_here(name: str, kind: str, root: Node) -> Problem | None:
    where, value = setting(("training", name), root), seen(root.at(("training", name)))
    if name in RESERVED:
        return Problem(where, value, *RESERVED[name])
    if name in training_fields(seq2seq=True) and name not in training_fields(kind in ("seq2seq", "trainer")):
        return Problem(where, value, "it belongs to task: seq2seq", "the config without it, or that task")
    return None


def _no_kind(root: Node) -> Problem:
    asked = _asked(root.value)
    tasks = ", ".join(sorted(TASKS))
    if len(asked) > 1:
        reason = f"{asked[0]} is given, too, and a config has one of task, trainer and script"
        return Problem(setting((asked[1],), root), seen(root.at((asked[1],))), reason, "one of the two")
    if not asked:
        reason, fix = "nothing says what is to be trained", f"task: one of {tasks}; or trainer: or script:"
        return Problem(f"task ({root.place.source})", NOTHING, reason, fix)
    task = root.value["task"]
    near = nearest(task.value, list(TASKS)) if isinstance(task.value, str) else None
    return Problem(setting(("task",), root), seen(task), "there is no such task", near or f"one of {tasks}")

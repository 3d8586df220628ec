"""Which settings of a run a sweep may vary."""

from __future__ import annotations

import re
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from raytrainer.config.hosted import RESERVED, checked, training_fields
from raytrainer.config.wording import nearest

Why = tuple[str, str]
"""The reason why a key cannot be swept, and what to write instead."""

_OWN_FOLDER = "each trial has a folder of its own below the sweep's", "the search space without it; name: the sweep's"
_SAME_RECORD = "all trials of a sweep are recorded in one place", "mlflow: in the base"
_SAME_DATA = "trials are compared, and so they are measured on the same data", "data.{} in the base"
_NOT_LEARNT = "it changes nothing in what is trained", "training.{} in the base"
_KIND = "a sweep is about one kind of training", "another sweep for each"
_WHOLE: dict[str, Why] = {
    "name": _OWN_FOLDER,
    "run": ("storage and failures are the sweep's, not a trial's", "run: in the base"),
    "mlflow": _SAME_RECORD,
    "kubernetes": ("pods are the sweep's, not a trial's", "kubernetes: in the base"),
    "task": _KIND,
    "trainer": _KIND,
    "script": _KIND,
    "args": ("flags have keys of their own", "training.X or params.X for the flag --X"),
    "base": ("a sweep has one base", "model.name, for example, for other models"),
    "tune": ("it is how the sweep itself works", "tune: beside search_space"),
    "search_space": ("it is how the sweep itself works", "the key without search_space"),
}
_OWN = ("output_dir", "logging_dir", "run_name", "resume_from_checkpoint")
_UNLEARNT = (
    *("report_to", "project", "trackio_space_id", "log_level", "log_level_replica", "disable_tqdm", "push_to_hub"),
    *("hub_model_id", "hub_strategy", "hub_token", "hub_private_repo", "hub_always_push", "hub_revision"),
    *("do_train", "do_eval", "do_predict", "save_total_limit", "enable_jit_checkpoint"),
)
_TRAINING: dict[str, Why] = {
    "local_rank": RESERVED["local_rank"],
    **dict.fromkeys(_OWN, _OWN_FOLDER),
    **{name: (_NOT_LEARNT[0], _NOT_LEARNT[1].format(name)) for name in _UNLEARNT},
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def why_not(key: str, kind: str) -> Why | None:
    """Return why a key cannot be swept; None for one that can.

    Args:
        key: the key, with dots.
        kind: which kind of config the base is, as ``kind_of`` says it.
    """
    steps = key.split(".")
    if not all(steps) or any(step != step.strip() for step in steps):
        return "it is no key", "a setting with a dot between the levels: training.learning_rate"
    top, rest = steps[0], steps[1:]
    if top in _WHOLE:
        return _WHOLE[top]
    if top == "training" and rest and rest[0] in _TRAINING:
        return _TRAINING[rest[0]]
    if top == "data" and rest and rest[0] in ("eval", "test") and kind not in ("trainer", "script"):
        return _SAME_DATA[0], _SAME_DATA[1].format(rest[0])
    if top == "params" or (kind == "script" and top == "training"):
        return _flag(rest)
    return _unknown(steps, kind)


def _flag(rest: list[str]) -> Why | None:
    if len(rest) == 1 and _NAME.fullmatch(rest[0]):
        return None
    return "one name follows, of letters, digits, dashes and underscores", "params.dropout, for example"


def _unknown(steps: list[str], kind: str) -> Why | None:
    annotation: Any = checked(kind)
    for number, step in enumerate(steps):
        sections, free = _inside(annotation)
        if free:
            return None
        above = ".".join(steps[:number])
        fields = {field.alias or name: field for section in sections for name, field in section.model_fields.items()}
        if not fields:
            return f"{above} has nothing below it", above
        if step not in fields:
            return _misspelt(step, above, list(fields), kind)
        annotation = fields[step].annotation
    if any(issubclass(section, BaseModel) for section in _inside(annotation)[0]) and len(steps) == 1:
        return f"{steps[0]} is a section", f"a setting of it, such as {steps[0]}.{_first(annotation)}"
    return None


def _misspelt(step: str, above: str, known: list[str], kind: str) -> Why:
    if not above:
        known = sorted({*known, "training", "params"} - _WHOLE.keys())
        if kind == "script" and step in ("model", "data", "precision", "loss_scale", "global_train_batch_size"):
            return "what a script trains is known to the script alone", "training.X or params.X for the flag --X"
    if above == "training" and step in training_fields(seq2seq=True):
        return "it belongs to task: seq2seq", "the search space without it, or that task"
    known = [name for name in known if above != "training" or name not in _TRAINING]
    near = nearest(step, known)
    reason = f"{above} has no setting {step}" if above else f"there is no setting {step}"
    deeper = nearest(step, list(training_fields(seq2seq=True))) if not above and near is None else None
    if deeper is not None:
        return reason, f"training.{deeper}"
    if near is None and above == "training":
        return reason, "a field of transformers.TrainingArguments"
    return reason, (f"{above}.{near}" if above else near) if near else f"one of {', '.join(sorted(known))}"


def _first(annotation: Any) -> str:
    return next(name for section in _inside(annotation)[0] for name in section.model_fields)


def _inside(annotation: Any) -> tuple[list[type[BaseModel]], bool]:
    """Return the sections that a type allows, and whether it allows mappings of whatever names."""
    origin = get_origin(annotation)
    if origin is dict or annotation is Any:
        return [], True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation], False
    if origin is None or origin is list:
        return [], False
    members = get_args(annotation) if origin is Union or type(annotation).__name__ == "UnionType" else ()
    members = members or get_args(annotation)[:1]
    found = [_inside(member) for member in members]
    return [section for sections, _ in found for section in sections], any(free for _, free in found)

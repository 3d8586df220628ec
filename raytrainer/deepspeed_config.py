"""DeepSpeed's configuration, read and held against the training arguments where the driver is.

transformers compares the two as well, by the same rules, but on the workers and when training begins.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from raytrainer.elastic import accumulation_steps
from raytrainer.errors import ArgumentsError, Problem

_SETTING = "args.deepspeed"
_EXAMPLE = "deepspeed={'zero_optimization': {'stage': 2}}"
_STAGES = (0, 1, 2, 3, "auto")
_GATHER = "stage3_gather_16bit_weights_on_model_save"


@dataclass(frozen=True)
class Asked:
    """What the configuration has to agree with.

    Args:
        arguments: fields of the training arguments.
        precision: as RayTrainer takes it.
        workers: how many, None where that is not known yet.
        global_batch: examples of an optimizer step, None where it follows from the number of workers.
    """

    arguments: Mapping[str, Any]
    precision: str | None = None
    workers: int | None = None
    global_batch: int | None = None


def read_config(given: dict[str, Any] | str | None) -> dict[str, Any] | None:
    """Return the configuration itself, whichever way it was given.

    Args:
        given: a dictionary, JSON, or the path of a JSON file on this machine.

    Returns:
        A configuration, None without DeepSpeed.

    Raises:
        ArgumentsError: there is no such file, or no dictionary in it.
    """
    config: Any = given
    if isinstance(given, str | os.PathLike) and given:
        config = _parsed(str(given))
    if not config and not isinstance(config, dict):
        return None
    if not isinstance(config, dict):
        reason = f"it holds a {type(config).__name__}, and a configuration is a dictionary"
        raise ArgumentsError(Problem(_SETTING, given, reason, _EXAMPLE))
    return config


def _parsed(given: str) -> Any:
    text = given
    if not given.lstrip().startswith("{"):
        path = os.path.expanduser(given)
        if not os.path.isfile(path):
            reason = f"there is no such file on this machine, seen from {os.getcwd()}"
            raise ArgumentsError(Problem(_SETTING, given, reason, f"the path of a JSON file, or {_EXAMPLE}"))
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"it is no JSON: {error.msg}, line {error.lineno}, column {error.colno}"
        raise ArgumentsError(Problem(_SETTING, given, reason, f"JSON without comments, or {_EXAMPLE}")) from None


def config_for(action: str, config: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what the workers are configured with.

    Args:
        action: ``train``, ``evaluate`` or ``predict``.
        config: as the user gave it.

    Returns:
        A new configuration. Under stage 3 it gathers the weights, unless it says otherwise. Nothing but stage 3 splits
        what an evaluation needs, and transformers evaluates under no other: None for those.
    """
    if config is None or (action != "train" and _stage(config) != 3):
        return None
    if _stage(config) == 3 and config["zero_optimization"].get(_GATHER, "auto") == "auto":
        config = {**config, "zero_optimization": {**config["zero_optimization"], _GATHER: True}}
    if action != "train":
        config = {name: value for name, value in config.items() if name not in ("optimizer", "scheduler")}
    return config


def config_problems(config: dict[str, Any] | None, asked: Asked) -> Iterator[Problem]:
    """Find what contradicts the training arguments, or itself.

    Args:
        config: as :func:`read_config` gave it.
        asked: what it has to agree with; ``"auto"`` agrees with everything.
    """
    if config is None:
        return
    if asked.arguments["fsdp"]:
        yield Problem("args.fsdp", asked.arguments["fsdp"], "deepspeed is set as well", "one of the two")
    wrong = list(_shape_problems(config))
    if wrong:
        yield from wrong
        return
    for key, expected, name in _expectations(asked):
        value = _value(config, key)
        if value is not None and value != "auto" and value != expected:
            fix = f"'auto', or {name}={value!r} in the training arguments"
            yield Problem(_path(key), value, f"the training arguments say {name}={expected!r}", fix)
    yield from _precision_problems(config, asked)
    if _value(config, f"zero_optimization.{_GATHER}") is False and _stage(config) == 3:
        reason = "under stage 3 the trained weights could not come back from the workers"
        yield Problem(_path(f"zero_optimization.{_GATHER}"), False, reason, "True, or leave it out")


def _shape_problems(config: dict[str, Any]) -> Iterator[Problem]:
    for key in ("zero_optimization", "optimizer", "optimizer.params", "scheduler", "scheduler.params", "fp16", "bf16"):
        node = _value(config, key)
        if node is not None and not isinstance(node, dict):
            yield Problem(_path(key), node, f"it is a {type(node).__name__}, not a dictionary", "a dictionary")
            return
    if "zero_optimization" not in config:
        yield Problem(_SETTING, config, "it has no 'zero_optimization', which accelerate needs", _EXAMPLE)
    elif _stage(config) not in _STAGES:
        yield Problem(_path("zero_optimization.stage"), _stage(config), "there is no such stage", "0, 1, 2 or 3")


def _expectations(asked: Asked) -> Iterator[tuple[str, Any, str]]:
    """Yield key, value, and what the training arguments call it."""
    given, workers = asked.arguments, asked.workers
    per_device, steps = given["per_device_train_batch_size"], given["gradient_accumulation_steps"]
    if asked.global_batch is not None:
        steps = accumulation_steps(asked.global_batch, per_device, workers) if workers else None
    yield "train_micro_batch_size_per_gpu", per_device, "per_device_train_batch_size"
    if steps is not None:
        yield "gradient_accumulation_steps", steps, "gradient_accumulation_steps"
    if steps is not None and workers is not None:
        counted = f"per_device_train_batch_size * gradient_accumulation_steps * {workers} workers"
        yield "train_batch_size", per_device * steps * workers, counted
    yield "gradient_clipping", given["max_grad_norm"], "max_grad_norm"
    yield "optimizer.params.lr", given["learning_rate"], "learning_rate"
    yield "optimizer.params.betas", [given["adam_beta1"], given["adam_beta2"]], "[adam_beta1, adam_beta2]"
    yield "optimizer.params.eps", given["adam_epsilon"], "adam_epsilon"
    yield "optimizer.params.weight_decay", given["weight_decay"], "weight_decay"
    yield "scheduler.params.warmup_max_lr", given["learning_rate"], "learning_rate"
    total, warmup = given["max_steps"], given["warmup_steps"]
    if total > 0:
        yield "scheduler.params.total_num_steps", total, "max_steps"
    if total > 0 or warmup >= 1:
        # DeepSpeed takes no 0 here, so transformers fills in 1.
        warm = max(1, int(warmup) if warmup >= 1 else math.ceil(total * warmup))
        yield "scheduler.params.warmup_num_steps", warm, "warmup_steps"


def _precision_problems(config: dict[str, Any], asked: Asked) -> Iterator[Problem]:
    given, request = asked.arguments, asked.precision
    said = next((name for name in ("bf16", "fp16") if given[name]), None)
    for name in ("fp16", "bf16"):
        value = _value(config, f"{name}.enabled")
        if value is None or value == "auto":
            continue
        if request == "auto" and said is None:
            reason = "precision='auto' decides it by the workers' hardware"
            yield Problem(_path(f"{name}.enabled"), value, reason, f"'auto', or precision={name!r}")
            continue
        chosen = said if request in (None, "auto") else request
        if value != (chosen == name or bool(given[f"{name}_full_eval"])):
            reason = f"the run computes in {chosen or 'fp32'}, by precision={request!r} and the training arguments"
            yield Problem(
                _path(f"{name}.enabled"), value, reason, f"'auto', or precision={name if value else 'fp32'!r}"
            )


def _stage(config: dict[str, Any]) -> Any:
    return _value(config, "zero_optimization.stage")


def _value(config: dict[str, Any], key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _path(key: str) -> str:
    return _SETTING + "".join(f"[{name!r}]" for name in key.split("."))

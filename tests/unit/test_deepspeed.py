"""DeepSpeed's configuration is held against the training arguments before a worker starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ray.train.v2.api.config import ScalingConfig

from raytrainer import RayTrainer, RayTrainingArguments
from raytrainer.arguments import field_values
from raytrainer.deepspeed import require_deepspeed
from raytrainer.deepspeed_config import Asked, config_for, config_problems, read_config
from raytrainer.errors import ArgumentsError, Problem, ResourcesError
from tests.ray.recipes import tiny_bert
from tests.unit.test_bad_input import ROWS

ZERO = {"zero_optimization": {"stage": 2}}
ZERO_3 = {"zero_optimization": {"stage": 3}}


def problems(config: dict[str, Any], asked: dict[str, Any], **arguments: Any) -> list[Problem]:
    values = field_values(RayTrainingArguments("out", report_to="none", **arguments))
    return list(config_problems({**ZERO, **config}, Asked(values, **asked)))


# A configuration, what is asked for, training arguments; the path of the key in the error, and words of its reason.
CONTRADICTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str, str]] = {
    "batch": (
        {"train_micro_batch_size_per_gpu": 4},
        {},
        {},
        "['train_micro_batch_size_per_gpu']",
        "per_device_train_batch_size=8",
    ),
    "accumulation": (
        {"gradient_accumulation_steps": 4},
        {},
        {},
        "['gradient_accumulation_steps']",
        "gradient_accumulation_steps=1",
    ),
    "accumulation that follows": (
        {"gradient_accumulation_steps": 1},
        {"workers": 2, "global_batch": 32},
        {},
        "['gradient_accumulation_steps']",
        "gradient_accumulation_steps=2",
    ),
    "global batch": (
        {"train_batch_size": 8},
        {"workers": 2},
        {"gradient_accumulation_steps": 3},
        "['train_batch_size']",
        "2 workers=48",
    ),
    "clipping": ({"gradient_clipping": 0.5}, {}, {}, "['gradient_clipping']", "max_grad_norm=1.0"),
    "learning rate": (
        {"optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}},
        {},
        {},
        "['optimizer']['params']['lr']",
        "learning_rate=5e-05",
    ),
    "momenta": (
        {"optimizer": {"type": "AdamW", "params": {"betas": [0.8, 0.9]}}},
        {},
        {},
        "['optimizer']['params']['betas']",
        "=[0.9, 0.999]",
    ),
    "scheduler": (
        {"scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": 1e-3}}},
        {},
        {},
        "['scheduler']['params']['warmup_max_lr']",
        "learning_rate=5e-05",
    ),
    "steps": (
        {"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 5}}},
        {},
        {"max_steps": 10},
        "['scheduler']['params']['total_num_steps']",
        "max_steps=10",
    ),
    "warmup": (
        {"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 5}}},
        {},
        {"max_steps": 10, "warmup_steps": 0.1},
        "['scheduler']['params']['warmup_num_steps']",
        "warmup_steps=1",
    ),
    "bf16 and fp32": ({"bf16": {"enabled": True}}, {}, {}, "['bf16']['enabled']", "computes in fp32"),
    "bf16 and fp16": (
        {"bf16": {"enabled": True}},
        {"precision": "fp16"},
        {},
        "['bf16']['enabled']",
        "computes in fp16, by precision='fp16'",
    ),
    "no bf16 and bf16": ({"bf16": {"enabled": False}}, {}, {"bf16": True}, "['bf16']['enabled']", "computes in bf16"),
    "fp16 and what the workers choose": (
        {"fp16": {"enabled": True}},
        {"precision": "auto"},
        {},
        "['fp16']['enabled']",
        "by the workers' hardware",
    ),
    "no dictionary": ({"optimizer": "AdamW"}, {}, {}, "['optimizer']", "it is a str"),
    "no stage": ({"zero_optimization": {}}, {}, {}, "['zero_optimization']['stage']", "no such stage"),
    "weights that stay away": (
        {"zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": False}},
        {},
        {},
        "['zero_optimization']['stage3_gather_16bit_weights_on_model_save']",
        "could not come back",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_contradicts_the_training_arguments_is_named(case: str) -> None:
    config, asked, arguments, path, reason = CONTRADICTIONS[case]
    (problem,) = problems(config, asked, **arguments)
    assert problem.setting == f"args.deepspeed{path}"
    assert reason in problem.reason
    assert problem.fix


def test_auto_agrees_with_everything() -> None:
    params = dict.fromkeys(("lr", "betas", "eps", "weight_decay", "warmup_max_lr", "total_num_steps"), "auto")
    auto = {
        **dict.fromkeys(("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_clipping"), "auto"),
        **{name: {"type": "any", "params": params} for name in ("optimizer", "scheduler")},
        **{name: {"enabled": "auto"} for name in ("fp16", "bf16")},
    }
    for precision in (None, "auto", "bf16", "fp16", "fp32"):
        assert not problems(auto, {"precision": precision, "workers": 3}, learning_rate=0.1)


def test_what_agrees_is_accepted() -> None:
    agrees = {
        "train_batch_size": 32,
        "gradient_accumulation_steps": 2,
        "bf16": {"enabled": True},
        "fp16": {"enabled": False},
        "optimizer": {"type": "AdamW", "params": {"lr": 0.1, "weight_decay": 0.0}},
    }
    asked = {"precision": "bf16", "workers": 2, "global_batch": 32}
    assert not problems(agrees, asked, learning_rate=0.1)
    assert not problems({"bf16": {"enabled": True}, "train_batch_size": 5}, {"precision": "auto"}, bf16=True)


def test_deepspeed_and_fsdp_are_two() -> None:
    (problem,) = problems({}, {}, fsdp=True)
    assert problem.setting == "args.fsdp"


def test_zero_is_needed() -> None:
    (problem,) = config_problems({"train_batch_size": "auto"}, Asked(field_values(RayTrainingArguments("out"))))
    assert "zero_optimization" in problem.reason


def ds_trainer(deepspeed: Any, **changes: Any) -> Any:
    arguments = RayTrainingArguments("out", report_to="none", deepspeed=deepspeed)
    return RayTrainer(tiny_bert(), arguments, train_dataset=ROWS, **changes)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "there is no such file"), ("{'a': 1}", "it is no JSON: .*line 1, column 2"), ("[1]", "it holds a list")],
)
def test_a_file_that_is_wrong_is_named_by_the_constructor(content: str | None, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "zero.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ArgumentsError, match=rf"args.deepspeed = '.*zero.json': {reason}"):
        ds_trainer(str(file))


def test_the_constructor_tells_everything_that_contradicts() -> None:
    with pytest.raises(ArgumentsError) as caught:
        ds_trainer({**ZERO, "train_batch_size": 9, "gradient_clipping": 9}, scaling_config=ScalingConfig(num_workers=2))
    assert len(caught.value.problems) == 2


def test_json_is_read_as_it_stands() -> None:
    assert read_config(json.dumps(ZERO)) == ZERO == read_config(ZERO)
    assert read_config(None) is None is read_config("")


def test_stage_3_gathers_the_weights_unless_it_says_otherwise() -> None:
    trained = config_for("train", {**ZERO_3, "optimizer": {}})
    assert trained == {
        "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True},
        "optimizer": {},
    }
    assert ZERO_3 == {"zero_optimization": {"stage": 3}}


def test_an_evaluation_splits_the_model_where_the_training_did() -> None:
    assert config_for("evaluate", ZERO) is None
    evaluated = config_for("predict", {**ZERO_3, "optimizer": {}, "scheduler": {}})
    assert evaluated is not None and evaluated.keys() == {"zero_optimization"}


def test_workers_without_deepspeed_are_named() -> None:
    require_deepspeed(None, lambda here: [False, False])
    require_deepspeed(ZERO, lambda here: [True, True])
    with pytest.raises(ResourcesError, match=r'rank 1\n.*pip install "raytrainer\[deepspeed\]"'):
        require_deepspeed(ZERO, lambda here: [True, False])

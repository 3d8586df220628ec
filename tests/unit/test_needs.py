"""A package that a task takes and that is not there is told before anything is trained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

from raytrainer.checkpoints import Store
from raytrainer.config.schema import CONFIG
from raytrainer.errors import ArgumentsError
from raytrainer.tasks.factory import TaskFactory

MODEL = {"from_config": {"model_type": "t5"}, "tokenizer": "characters"}


@pytest.mark.parametrize(
    ("task", "more", "package", "setting"),
    [
        ("text-classification", {}, "sklearn", "task = 'text-classification'"),
        ("image-classification", {"model": {"from_config": {"model_type": "vit"}}}, "PIL", "task"),
        ("seq2seq", {"metrics": ["exact_match", "rouge"]}, "rouge_score", "metrics = 'rouge'"),
        ("causal-lm", {"model": {**MODEL, "peft": {"r": 4}}}, "peft", "model.peft"),
    ],
)
def test_what_is_not_installed_is_told(
    task: str, more: dict[str, Any], package: str, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = TrainingArguments(str(tmp_path / "out"), use_cpu=True, report_to="none")
    values = {"name": "run", "task": task, "model": MODEL, "data": {"train": "none.jsonl"}, **more}
    factory = TaskFactory(CONFIG.validate_python(values), Store(str(tmp_path / "run")), Store(str(tmp_path / "cache")))
    monkeypatch.setitem(sys.modules, package, None)  # for Python: it is not installed
    with pytest.raises(ArgumentsError) as caught:
        factory(arguments)
    (problem,) = caught.value.problems
    assert setting in str(problem) and f"the package {package}" in problem.reason
    assert "raytrainer[tasks]" in problem.fix

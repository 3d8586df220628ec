"""Texts that are longer than a new model has positions for are cut, whatever its family counts from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

from raytrainer.checkpoints import Store
from raytrainer.config.schema import CONFIG
from raytrainer.errors import ArgumentsError
from raytrainer.tasks.factory import TaskFactory

pytestmark = pytest.mark.trains

SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def factory(folder: Path, model_type: str, **data: Any) -> TaskFactory:
    rows = [{"text": "abc " * 40, "label": n % 2} for n in range(8)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = {
        "from_config": {"model_type": model_type, "max_position_embeddings": 24, **SIZES},
        "tokenizer": "characters",
    }
    given = {"train": str(folder / "train.jsonl"), **data}
    values = {"name": "run", "task": "text-classification", "model": model, "data": given}
    config = CONFIG.validate_python(values)
    return TaskFactory(config, Store(str(folder / "run")), Store(str(folder / "cache")))


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta", "electra"])
def test_texts_are_cut_to_the_positions(model_type: str, tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path / "out"), max_steps=1, use_cpu=True, report_to="none")
    trainer = factory(tmp_path, model_type)(arguments)
    trainer.train()
    assert trainer.state.global_step == 1


def test_more_than_the_positions_is_refused(tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path / "out"), max_steps=1, use_cpu=True, report_to="none")
    with pytest.raises(ArgumentsError, match=r"data\.max_length = 100: the model has positions for 24 tokens"):
        factory(tmp_path, "bert", max_length=100)(arguments)

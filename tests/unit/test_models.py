"""Pretrained models, as a config names them: what is loaded, and what the task makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from raytrainer.contract import inspect_model
from raytrainer.tasks.tokenizers import train_tokenizer
from tests.unit.task_rows import NUMBERS, SMALL, WORDS
from tests.unit.test_tasks import Case

pytestmark = pytest.mark.trains


@pytest.fixture
def decoder(tmp_path: Path) -> Path:
    """A decoder in bfloat16 that has no token for padding, as many have none."""
    folder = tmp_path / "decoder"
    tokenizer = train_tokenizer("words", None, [" ".join(kind) for kind in (NUMBERS, *WORDS.values())], "none", None)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    config = AutoConfig.for_model("llama", **SMALL, vocab_size=len(tokenizer))
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def trainer_of(decoder: Path, task: str = "text-classification", **model: Any) -> Any:
    case = Case(task, decoder.parent)
    return case.factory({"name": str(decoder), "from_config": None, "tokenizer": None, **model})(case.arguments())


@pytest.mark.parametrize(("asked", "loaded"), [(None, torch.float32), ("auto", torch.bfloat16)])
def test_weights_are_of_the_type_that_the_config_says(asked: Any, loaded: torch.dtype, decoder: Path) -> None:
    model = trainer_of(decoder, dtype=asked).model
    assert {weight.dtype for weight in model.parameters()} == {loaded}


def test_a_decoder_without_a_token_for_padding_takes_batches_before_it_trains(decoder: Path) -> None:
    trainer = trainer_of(decoder)
    assert trainer.model.config.pad_token_id == trainer.processing_class.pad_token_id is not None
    assert inspect_model(trainer, probe_loss_scale=True).skipped is None
    generates = trainer_of(decoder, "causal-lm").model
    assert generates.generation_config.pad_token_id == trainer.processing_class.pad_token_id

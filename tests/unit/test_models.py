"""Pretrained models, as a config names them: what is loaded, and what the task makes of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, dynamic_module_utils

from raytrainer.contract import inspect_model
from raytrainer.errors import UserError
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


def test_a_tokenizer_with_code_of_its_own_is_loaded_where_the_config_trusts_it(
    decoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(decoder.parent / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    code = "from transformers import PreTrainedTokenizerFast\nclass OwnTokenizer(PreTrainedTokenizerFast):\n    pass\n"
    (decoder / "own.py").write_text(code)
    file = decoder / "tokenizer_config.json"
    said = {
        **json.loads(file.read_text()),
        "auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]},
        "tokenizer_class": "OwnTokenizer",
    }
    file.write_text(json.dumps(said))
    assert type(trainer_of(decoder, trust_remote_code=True).processing_class).__name__ == "OwnTokenizer"
    with pytest.raises(UserError, match="contains custom code"):
        trainer_of(decoder)

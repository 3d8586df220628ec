"""Worker: texts to be gone on with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datasets import DatasetDict
from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq

from raytrainer.tasks.language_modeling import LanguageModelingTask
from raytrainer.tasks.packing import token_examples


class CausalLMTask(LanguageModelingTask):
    """Worker: see :class:`raytrainer.config.schema.CausalLM`."""

    auto = AutoModelForCausalLM
    ends = "none"
    shift = 1

    def prepare(self, raw: DatasetDict, processor: Any) -> tuple[DatasetDict, dict[str, Any]]:
        return token_examples(self.config, raw, processor), {}

    def collator(self, tokenizer: Any) -> Callable[[list[dict[str, Any]]], Any]:
        # Not transformers' collator for language models: it takes every end of a text for padding where a tokenizer
        # has one token for both, and the model would never learn to stop.
        pad = DataCollatorForSeq2Seq(tokenizer)
        return lambda examples: pad([{**one, "labels": one["input_ids"]} for one in examples])

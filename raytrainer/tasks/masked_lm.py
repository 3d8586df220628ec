"""Worker: texts with holes to be filled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datasets import DatasetDict
from transformers import AutoModelForMaskedLM, DataCollatorForLanguageModeling, DataCollatorForSeq2Seq

from raytrainer.config.schema import MaskedLM
from raytrainer.errors import ArgumentsError, Problem
from raytrainer.tasks.language_modeling import LanguageModelingTask
from raytrainer.tasks.packing import token_examples


class MaskedLMTask(LanguageModelingTask):
    """Worker: see :class:`raytrainer.config.schema.MaskedLM`."""

    auto = AutoModelForMaskedLM
    config: MaskedLM
    shift = 0

    def prepare(self, raw: DatasetDict, processor: Any) -> tuple[DatasetDict, dict[str, Any]]:
        if processor.mask_token is None:
            reason = f"{type(processor).__name__} has no mask token"
            fix = "the tokenizer of a model that fills holes (BERT and its like), or characters, words, bpe"
            model = self.config.model
            setting = "model.tokenizer" if model.tokenizer else "model.name"
            raise ArgumentsError(Problem(setting, model.tokenizer or model.name, reason, fix))
        splits = token_examples(self.config, raw, processor)
        for name in splits.keys() - {"train"}:
            # Once for all, so that every evaluation, on any number of workers, asks for the same tokens.
            mask = Masking(processor, self.config.data.mlm_probability, seed=0)
            masked = splits[name].map(lambda row, mask=mask: mask.one(row), load_from_cache_file=False)
            splits[name] = masked
        return splits, {}

    def collator(self, tokenizer: Any) -> Callable[[list[dict[str, Any]]], Any]:
        mask, pad = Masking(tokenizer, self.config.data.mlm_probability), DataCollatorForSeq2Seq(tokenizer)
        return lambda examples: pad(examples) if "labels" in examples[0] else mask(examples)


class Masking:
    """Hides tokens, at least one in a batch that has any: a loss of none is no number, and would spoil the weights.

    Args:
        tokenizer: of the examples.
        probability: share of the tokens that are hidden.
        seed: of numbers of its own; None for torch's.
    """

    def __init__(self, tokenizer: Any, probability: float, seed: int | None = None) -> None:
        self._special = set(tokenizer.all_special_ids)
        self._mask = DataCollatorForLanguageModeling(tokenizer, mlm_probability=probability, seed=seed)

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        batch = self._mask(examples)
        has_any = any(token not in self._special for one in examples for token in one["input_ids"])
        while has_any and not (batch["labels"] >= 0).any():
            batch = self._mask(examples)
        return batch

    def one(self, example: dict[str, Any]) -> dict[str, list[int]]:
        """Return an example with tokens hidden, and labels that tell which they were."""
        batch = self([example])
        return {name: batch[name][0].tolist() for name in ("input_ids", "labels")}

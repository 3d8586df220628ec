"""The examples of the summaries, tokenized."""

from __future__ import annotations

from typing import Any

from datasets import DatasetDict, load_dataset
from transformers import PreTrainedTokenizerBase, TrainingArguments


def tokenized(
    files: dict[str, str], tokenizer: PreTrainedTokenizerBase, longest: int, args: TrainingArguments
) -> DatasetDict:
    """Read JSON files with ``document`` and ``summary``, and tokenize them on the main process first."""
    raw = load_dataset("json", data_files=files)
    assert isinstance(raw, DatasetDict)

    def tokenize(rows: dict[str, list[str]]) -> dict[str, Any]:
        inputs = tokenizer(rows["document"], max_length=longest, truncation=True)
        labels = tokenizer(text_target=rows["summary"], max_length=longest, truncation=True)
        return {**inputs, "labels": labels["input_ids"]}

    with args.main_process_first(desc="tokenizing"):
        return raw.map(tokenize, batched=True, remove_columns=raw["train"].column_names)

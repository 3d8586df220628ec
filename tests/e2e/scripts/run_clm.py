"""Train a language model on a text file, in the manner of transformers' example; knows nothing of Ray."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from characters import character_tokenizer
from datasets import DatasetDict, load_dataset
from transformers import (
    HfArgumentParser,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
    default_data_collator,
    set_seed,
)


@dataclass
class DataArguments:
    """What is trained on."""

    train_file: str = field(metadata={"help": "text"})
    validation_file: str = field(metadata={"help": "text"})
    block_size: int = 16


def main() -> None:
    """Do what the command line says."""
    data_args, args = HfArgumentParser((DataArguments, TrainingArguments)).parse_args_into_dataclasses()
    print(f"rank {args.process_index} of {args.world_size}", file=sys.stderr)
    set_seed(args.seed)
    raw = load_dataset("text", data_files={"train": data_args.train_file, "validation": data_args.validation_file})
    assert isinstance(raw, DatasetDict)
    tokenizer = character_tokenizer()
    size = data_args.block_size

    def blocks(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        ids = list(chain.from_iterable(tokenizer(rows["text"])["input_ids"]))
        cut = [ids[start : start + size] for start in range(0, len(ids) // size * size, size)]
        return {"input_ids": cut, "attention_mask": [[1] * size for _ in cut], "labels": [list(block) for block in cut]}

    with args.main_process_first(desc="grouping texts"):
        splits = raw.map(blocks, batched=True, remove_columns="text")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        attention_dropout=0.1,
    )
    trainer = Trainer(
        model=LlamaForCausalLM(config),
        args=args,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=tokenizer,
        data_collator=default_data_collator,
    )
    metrics = trainer.train().metrics
    trainer.save_model()
    trainer.log_metrics("train", metrics)
    trainer.save_metrics("train", metrics)
    trainer.save_state()
    metrics = trainer.evaluate()
    metrics["perplexity"] = math.exp(metrics["eval_loss"])
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)
    if trainer.is_world_process_zero():
        print(f"perplexity: {metrics['perplexity']:.3f}")


if __name__ == "__main__":
    main()

"""Train a summarizer on JSON files, in the manner of transformers' example; knows nothing of Ray."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from characters import character_tokenizer
from transformers import (
    DataCollatorForSeq2Seq,
    EvalPrediction,
    HfArgumentParser,
    PreTrainedTokenizerBase,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    set_seed,
)

from .data import tokenized


@dataclass
class DataArguments:
    """What is trained on."""

    train_file: str
    validation_file: str
    max_length: int = 24


class Summarizer(Seq2SeqTrainer):
    """Has a ``train`` of its own, as some users' trainers do."""

    trainings = 0

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Count the calls."""
        self.trainings += 1
        return super().train(*args, **kwargs)


def main() -> None:
    """Do what the command line says."""
    data_args, args = HfArgumentParser((DataArguments, Seq2SeqTrainingArguments)).parse_args_into_dataclasses()
    set_seed(args.seed)
    tokenizer = character_tokenizer()
    files = {"train": data_args.train_file, "validation": data_args.validation_file}
    splits = tokenized(files, tokenizer, data_args.max_length, args)
    config = T5Config(vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    config.decoder_start_token_id = 0
    model = T5ForConditionalGeneration(config)
    trainer = Summarizer(
        model=model,
        args=args,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        compute_metrics=overlap,
    )
    metrics = trainer.train().metrics
    assert trainer.trainings == 1
    trainer.save_model()
    trainer.log_metrics("train", metrics)
    trainer.save_metrics("train", metrics)
    trainer.save_state()
    metrics = trainer.evaluate(max_length=12, num_beams=2, metric_key_prefix="eval")
    trainer.log_metrics("eval", metrics)
    trainer.save_metrics("eval", metrics)
    output = trainer.predict(splits["validation"], metric_key_prefix="predict", max_length=10)
    trainer.save_metrics("predict", output.metrics)
    if trainer.is_world_process_zero():
        lines = decoded(tokenizer, output.predictions)
        Path(args.output_dir, "predictions.txt").write_text("\n".join(lines) + "\n")


def overlap(prediction: EvalPrediction) -> dict[str, float]:
    """Share of positions that are right."""
    predictions, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    width = min(predictions.shape[1] - 1, labels.shape[1])
    return {"overlap": float((predictions[:, 1 : width + 1] == labels[:, :width]).mean())}


def decoded(tokenizer: PreTrainedTokenizerBase, predictions: Any) -> list[str]:
    """Turn what was generated into text."""
    ids = np.where(predictions != -100, predictions, tokenizer.pad_token_id)
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]


if __name__ == "__main__":
    main()

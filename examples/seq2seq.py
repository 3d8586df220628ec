"""Dates in twelve languages to ISO 8601: a sequence-to-sequence model trained on two Ray Train workers.

What a script for transformers alone would have otherwise: the two names imported from raytrainer, and scaling_config.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
from dates import date_pairs
from ray.train import ScalingConfig
from transformers import (
    ByT5Tokenizer,
    DataCollatorForSeq2Seq,
    EvalPrediction,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
    set_seed,
)

from raytrainer import RaySeq2SeqTrainer, RaySeq2SeqTrainingArguments


def main() -> None:
    """Train, evaluate, save, and say where everything is."""
    options = parse_options()
    set_seed(0)
    tokenizer = ByT5Tokenizer(extra_ids=0)  # a token is a byte: there is no vocabulary to download
    model = small_t5(tokenizer)
    train, evaluation = (
        pairs.map(partial(tokenize, tokenizer), batched=True, remove_columns=pairs.column_names)
        for pairs in date_pairs(options.train_examples, options.eval_examples)
    )

    trainer = RaySeq2SeqTrainer(
        model=model,
        args=training_arguments(options),
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        compute_metrics=partial(exact_match, tokenizer),
        scaling_config=ScalingConfig(num_workers=options.num_workers),
    )
    trainer.train()
    metrics = trainer.evaluate()
    before = next(entry["eval_exact_match"] for entry in trainer.state.log_history if "eval_exact_match" in entry)
    trainer.save_model(str(options.output_dir / "model"))

    if trainer.is_world_process_zero():
        store = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        print(f"exact match: {metrics['eval_exact_match']:.1%} of {len(evaluation)} dates that training never saw")
        print(f"             (untrained: {before:.1%})")
        print(f"model:       {options.output_dir / 'model'}")
        print(f"MLflow:      {sys.executable} -m mlflow ui --backend-store-uri {store}")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--num-workers", type=int, default=2, help="Ray Train workers")
    parser.add_argument("--max-steps", type=int, default=600, help="optimizer steps")
    parser.add_argument("--train-examples", type=int, default=20_000, help="dates to train on")
    parser.add_argument("--eval-examples", type=int, default=500, help="dates to evaluate on")
    parser.add_argument("--output-dir", type=Path, default=Path("out/dates"), help="folder for the model")
    return parser.parse_args()


def training_arguments(options: argparse.Namespace) -> RaySeq2SeqTrainingArguments:
    """Choose what learns in under a minute on two cores."""
    return RaySeq2SeqTrainingArguments(
        output_dir=str(options.output_dir),
        run_name="dates",
        max_steps=options.max_steps,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        learning_rate=4e-3,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        logging_steps=20,
        eval_strategy="steps",
        eval_steps=0.25,
        eval_on_start=True,  # the untrained model's, to compare with
        save_strategy="no",
        predict_with_generate=True,
        generation_max_length=16,
        ddp_find_unused_parameters=False,
        report_to="mlflow",
    )


def small_t5(tokenizer: PreTrainedTokenizerBase) -> T5ForConditionalGeneration:
    """Build a T5 of 181,440 parameters, untrained."""
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_heads=4,
        num_layers=2,
        dropout_rate=0.0,
    )
    config.decoder_start_token_id = tokenizer.pad_token_id
    return T5ForConditionalGeneration(config)


def tokenize(tokenizer: PreTrainedTokenizerBase, rows: dict[str, list[str]]) -> dict[str, list[list[int]]]:
    """Turn texts into token ids, and targets into labels."""
    return dict(tokenizer(rows["source"], text_target=rows["target"]))


def exact_match(tokenizer: PreTrainedTokenizerBase, prediction: EvalPrediction) -> dict[str, float]:
    """Count the dates of which every character is right."""
    written, wanted = (
        # -100 fills rows up to the longest one; it is no token
        tokenizer.batch_decode(np.where(np.equal(ids, -100), tokenizer.pad_token_id, ids), skip_special_tokens=True)
        for ids in (prediction.predictions, prediction.label_ids)
    )
    return {"exact_match": float(np.mean([one == other for one, other in zip(written, wanted, strict=True)]))}


if __name__ == "__main__":
    main()

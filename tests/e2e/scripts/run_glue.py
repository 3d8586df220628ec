"""Train a text classifier on JSON lines, in the manner of transformers' example for GLUE; knows nothing of Ray."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass, field

import numpy as np
from characters import character_tokenizer
from datasets import Dataset, DatasetDict, load_dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    EvalPrediction,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)

logger = logging.getLogger(__name__)


@dataclass
class DataArguments:
    """Where the examples are."""

    train_file: str = field(metadata={"help": "JSON lines with text and label"})
    validation_file: str = field(metadata={"help": "the same"})
    test_file: str | None = field(default=None, metadata={"help": "JSON lines to predict"})
    max_seq_length: int = field(default=24, metadata={"help": "longer texts are cut"})


@dataclass
class ModelArguments:
    """How large the model is."""

    hidden_size: int = 16
    num_layers: int = 1


def main() -> None:
    """Do what the command line says."""
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        model_args, data_args, args = parser.parse_json_file(os.path.abspath(sys.argv[1]))
    else:
        model_args, data_args, args = parser.parse_args_into_dataclasses()
    logging.basicConfig(format="%(name)s: %(message)s", handlers=[logging.StreamHandler(sys.stdout)])
    logger.setLevel(logging.INFO if args.should_log else logging.WARNING)
    logger.warning("process %d of %d on %s", args.process_index, args.world_size, args.device)
    set_seed(args.seed)

    files = {"train": data_args.train_file, "validation": data_args.validation_file, "test": data_args.test_file}
    raw = load_dataset("json", data_files={split: file for split, file in files.items() if file})
    assert isinstance(raw, DatasetDict)
    tokenizer = character_tokenizer()
    with args.main_process_first(desc="tokenizing"):
        splits = raw.map(
            lambda rows: tokenizer(rows["text"], max_length=data_args.max_seq_length, truncation=True),
            batched=True,
            remove_columns="text",
        )
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=model_args.hidden_size,
        num_hidden_layers=model_args.num_layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        id2label={label: str(label) for label in range(3)},
    )
    trainer = Trainer(
        model=BertForSequenceClassification(config),
        args=args,
        train_dataset=splits["train"] if args.do_train else None,
        eval_dataset=splits["validation"] if args.do_eval else None,
        compute_metrics=accuracy,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    if args.do_train:
        result = trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
        trainer.save_model()
        trainer.log_metrics("train", result.metrics)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
    if args.do_eval:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    if args.do_predict:
        write_predictions(trainer, splits["test"], os.path.join(args.output_dir, "predictions.txt"))
    logger.info("done in %s", args.output_dir)


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Share of examples that are right."""
    return {"accuracy": float((np.argmax(prediction.predictions, axis=1) == prediction.label_ids).mean())}


def write_predictions(trainer: Trainer, test: Dataset, path: str) -> None:
    """Write the most likely label of each example."""
    predictions = np.argmax(trainer.predict(test, metric_key_prefix="predict").predictions, axis=1)
    if trainer.is_world_process_zero():
        with open(path, "w") as file:
            file.writelines(f"{index}\t{label}\n" for index, label in enumerate(predictions))


if __name__ == "__main__":
    main()

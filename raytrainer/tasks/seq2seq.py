"""Worker: texts that become other texts: translations, summaries, anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from datasets import Dataset, DatasetDict
from transformers import (
    AutoModelForSeq2SeqLM,
    DataCollatorForSeq2Seq,
    EvalPrediction,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput

from raytrainer.config.schema import Seq2Seq
from raytrainer.tasks.task import Prepared, TaskOf, max_length
from raytrainer.tasks.text_metrics import text_metrics
from raytrainer.tasks.texts import decode_wanted, decode_written, texts_in


class Seq2SeqTask(TaskOf):
    """Worker: see :class:`raytrainer.config.schema.Seq2Seq`."""

    auto = AutoModelForSeq2SeqLM
    ends = "eos"
    config: Seq2Seq

    def columns(self) -> dict[str, str]:
        return {"source": self.config.data.source, "target": self.config.data.target}

    def texts(self, split: Dataset) -> Iterable[str]:
        return chain(self._sources(split), texts_in(split[self.config.data.target], "target", self.config.data.target))

    def prepare(self, raw: DatasetDict, processor: Any) -> tuple[DatasetDict, dict[str, Any]]:
        data = self.config.data
        length = max_length(self.config, processor)
        target_length = data.max_target_length or length
        longest = 0

        def encode(rows: dict[str, list[Any]]) -> dict[str, Any]:
            nonlocal longest
            targets = list(texts_in(rows[data.target], "target", data.target))
            inputs = processor(list(self._sources(rows)), truncation=True, max_length=length)
            labels = processor(text_target=targets, truncation=True, max_length=target_length)["input_ids"]
            longest = max(longest, *map(len, labels))
            return {**inputs, "labels": labels}

        splits = {
            # Without a file of datasets' own, which would be found again without a word about the longest target.
            name: split.map(encode, batched=True, remove_columns=split.column_names, load_from_cache_file=False)
            for name, split in raw.items()
        }
        return DatasetDict(splits), {"longest_target": longest}

    def trainer(self, model: Any, arguments: TrainingArguments, prepared: Prepared) -> Trainer:
        assert isinstance(arguments, Seq2SeqTrainingArguments)
        tokenizer = prepared.processor
        # One more than the longest target, for the token that a decoder begins with. It goes with the model.
        model.generation_config.max_length = arguments.generation_max_length or prepared.facts["longest_target"] + 1
        # Where nothing is generated there are only logits of every token to gather, and nobody to read them.
        arguments.prediction_loss_only |= not arguments.predict_with_generate

        def measure(prediction: EvalPrediction) -> dict[str, float]:
            written = decode_written(tokenizer, prediction.predictions)
            return text_metrics(self.config.metrics, written, decode_wanted(tokenizer, prediction.label_ids))

        return WritingTrainer(
            model=model,
            args=arguments,
            train_dataset=prepared.splits["train"],
            eval_dataset=prepared.eval,
            processing_class=tokenizer,
            data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
            compute_metrics=measure if arguments.predict_with_generate else None,
        )

    def rows(self, output: PredictionOutput, prepared: Prepared) -> Iterator[dict[str, Any]]:
        for text in decode_written(prepared.processor, output.predictions):
            yield {"prediction": text}

    def _sources(self, rows: Any) -> Iterator[str]:
        data = self.config.data
        return (data.prefix + text for text in texts_in(rows[data.source], "source", data.source))


class WritingTrainer(Seq2SeqTrainer):
    """Worker: transformers' Seq2SeqTrainer, which on several workers measures each example once."""

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Evaluate as transformers does."""
        # Seq2SeqTrainer keeps the examples, taken from the beginning, that fill up the last batches of all workers.
        self.gather_function = self.accelerator.gather_for_metrics
        return super().evaluation_loop(*args, **kwargs)

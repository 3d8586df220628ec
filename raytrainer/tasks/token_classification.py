"""Worker: the words of a text, and a tag for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    EvalPrediction,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import PredictionOutput

from raytrainer.config.schema import TokenClassification
from raytrainer.errors import ArgumentsError, Problem
from raytrainer.tasks import metrics
from raytrainer.tasks.labels import label_names, model_labels, numbers_of
from raytrainer.tasks.spans import are_iob, continued
from raytrainer.tasks.task import Prepared, TaskOf, max_length

_NONE = -100  # what torch's loss leaves out


class TokenClassificationTask(TaskOf):
    """Worker: see :class:`raytrainer.config.schema.TokenClassification`."""

    auto = AutoModelForTokenClassification
    config: TokenClassification

    def columns(self) -> dict[str, str]:
        return {"tokens": self.config.data.tokens, "tags": self.config.data.tags}

    def texts(self, split: Dataset) -> Iterable[str]:
        return chain.from_iterable(split[self.config.data.tokens])

    def prepare(self, raw: DatasetDict, processor: Any) -> tuple[DatasetDict, dict[str, Any]]:
        data = self.config.data
        for name, split in raw.items():
            self._check(split, name)
        if not processor.is_fast:
            reason = f"{type(processor).__name__} does not say which piece belongs to which word"
            raise ArgumentsError(Problem("model.tokenizer", self.config.model.tokenizer, reason, "a fast tokenizer"))
        names = label_names(data.labels, raw, data.tags, "data.tags")
        length = max_length(self.config, processor)
        splits = {}
        for name, split in raw.items():
            numbers = numbers_of(split, data.tags, names, name, "data.tags")

            def encode(rows: dict[str, list[Any]], numbers: dict[Any, int] = numbers) -> dict[str, list[Any]]:
                pieces = processor(rows[data.tokens], is_split_into_words=True, truncation=True, max_length=length)
                tags = [[numbers[tag] for tag in row] for row in rows[data.tags]]
                aligned = [self._aligned(pieces.word_ids(i), row, names) for i, row in enumerate(tags)]
                return {
                    **pieces,
                    "labels": [labels for labels, _ in aligned],
                    "words": [words for _, words in aligned],
                    "word_count": [len(row) for row in tags],
                }

            splits[name] = split.map(encode, batched=True, remove_columns=split.column_names)
        return DatasetDict(splits), {"labels": names}

    def model_settings(self, facts: dict[str, Any]) -> dict[str, Any]:
        return model_labels(facts["labels"])

    def trainer(self, model: Any, arguments: TrainingArguments, prepared: Prepared) -> Trainer:
        names = prepared.facts["labels"]

        def measure(prediction: EvalPrediction) -> dict[str, float]:
            pairs = zip(prediction.predictions, prediction.label_ids, strict=True)
            rows = [(given[wanted != _NONE], wanted[wanted != _NONE]) for given, wanted in pairs]
            if are_iob(names):
                named = ([[names[tag] for tag in tags] for tags in row] for row in rows)
                return metrics.spans([(given, wanted) for given, wanted in named])
            given, wanted = (np.concatenate(side) for side in zip(*rows, strict=True))
            return metrics.classification(given, wanted)

        return Trainer(
            model=model,
            args=arguments,
            train_dataset=prepared.splits["train"],
            eval_dataset=prepared.eval,
            processing_class=prepared.processor,
            data_collator=DataCollatorForTokenClassification(prepared.processor),
            compute_metrics=measure,
            # The logits of all examples, tokens and tags would fill the memory.
            preprocess_logits_for_metrics=_best,
        )

    def rows(self, output: PredictionOutput, prepared: Prepared) -> Iterator[dict[str, Any]]:
        names, labelled = prepared.facts["labels"], metrics.first(output.label_ids)
        for best, labels, example in zip(output.predictions, labelled, prepared.splits["test"], strict=True):
            # Backwards, so that the first piece of a word decides; a word that was cut off has no tag.
            pieces = zip(example["words"], best[labels != _NONE], strict=True)
            tags = {word: names[tag] for word, tag in reversed(list(pieces))}
            yield {"prediction": [tags.get(word) for word in range(example["word_count"])]}

    def _aligned(self, words: list[int | None], tags: list[int], names: list[str]) -> tuple[list[int], list[int]]:
        """Return the label of every piece, and the words of those pieces that have one."""
        labels, labelled, before = [], [], None
        for word in words:
            if word is None or (word == before and not self.config.data.label_all_tokens):
                labels.append(_NONE)
            else:
                tag = names[tags[word]]
                labels.append(names.index(continued(tag, names) if word == before else tag))
                labelled.append(word)
            before = word
        return labels, labelled

    def _check(self, split: Dataset, name: str) -> None:
        data = self.config.data
        for setting, column in self.columns().items():
            if not hasattr(split.features[column], "feature"):
                reason = f"in data.{name} it has {split.features[column].dtype}, and it must have lists"
                raise ArgumentsError(Problem(f"data.{setting}", column, reason, "a column of lists, one entry a word"))
        for at, (words, tags) in enumerate(zip(split[data.tokens], split[data.tags], strict=True)):
            if words is None or tags is None or len(words) != len(tags) or not all(isinstance(w, str) for w in words):
                reason = f"example {at} of data.{name} has {words!r:.60} with {tags!r:.60}"
                raise ArgumentsError(
                    Problem("data.tags", data.tags, reason, "as many tags as words, and words of text")
                )


def _best(logits: Any, labels: Any) -> Any:
    return (logits[0] if isinstance(logits, tuple) else logits).argmax(dim=-1)

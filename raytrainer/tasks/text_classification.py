"""Worker: texts, or pairs of texts, and what they are: one label, several, or a number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from datasets import Dataset, DatasetDict
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import PredictionOutput

from raytrainer.config.schema import TextClassification
from raytrainer.errors import ArgumentsError, Problem
from raytrainer.tasks import metrics
from raytrainer.tasks.labels import label_names, model_labels, numbers_of
from raytrainer.tasks.task import Prepared, TaskOf, max_length
from raytrainer.tasks.texts import texts_in

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


class TextClassificationTask(TaskOf):
    """Worker: see :class:`raytrainer.config.schema.TextClassification`."""

    auto = AutoModelForSequenceClassification
    config: TextClassification

    def columns(self) -> dict[str, str]:
        data = self.config.data
        labels = {"label": data.label} if isinstance(data.label, str) else {f"label.{one}": one for one in data.label}
        return {**self._text_columns(), **labels}

    def texts(self, split: Dataset) -> Iterable[str]:
        return chain.from_iterable(self._texts(split).values())

    def prepare(self, raw: DatasetDict, processor: Any) -> tuple[DatasetDict, dict[str, Any]]:
        problem_type = self._problem_type(raw["train"])
        names = self._names(raw, problem_type)
        length = max_length(self.config, processor)
        splits = {}
        for name, split in raw.items():
            labels = self._labels(split, problem_type, names, name)

            def encode(rows: dict[str, list[Any]], at: list[int], labels: list[Any] = labels) -> dict[str, Any]:
                return {
                    **processor(*self._texts(rows).values(), truncation=True, max_length=length),
                    "labels": [labels[i] for i in at],
                }

            splits[name] = split.map(encode, batched=True, with_indices=True, remove_columns=split.column_names)
        return DatasetDict(splits), {"problem_type": problem_type, "labels": names}

    def model_settings(self, facts: dict[str, Any]) -> dict[str, Any]:
        if facts["problem_type"] == REGRESSION:
            return {"problem_type": REGRESSION, "num_labels": 1}
        return {"problem_type": facts["problem_type"], **model_labels(facts["labels"])}

    def trainer(self, model: Any, arguments: TrainingArguments, prepared: Prepared) -> Trainer:
        return Trainer(
            model=model,
            args=arguments,
            train_dataset=prepared.splits["train"],
            eval_dataset=prepared.eval,
            processing_class=prepared.processor,
            data_collator=DataCollatorWithPadding(prepared.processor),
            compute_metrics=_METRICS[prepared.facts["problem_type"]],
        )

    def rows(self, output: PredictionOutput, prepared: Prepared) -> Iterator[dict[str, Any]]:
        kind, names = prepared.facts["problem_type"], prepared.facts["labels"]
        for scores in metrics.first(output.predictions):
            if kind == REGRESSION:
                yield {"prediction": float(scores.reshape(-1)[0])}
            elif kind == MULTI:
                yield {"prediction": [name for name, score in zip(names, scores, strict=True) if score > 0]}
            else:
                yield metrics.likeliest(scores, names)

    def _text_columns(self) -> dict[str, str]:
        data = self.config.data
        return {"text": data.text, **({"text_pair": data.text_pair} if data.text_pair else {})}

    def _texts(self, rows: Any) -> dict[str, list[str]]:
        columns = self._text_columns().items()
        return {setting: list(texts_in(rows[column], setting, column)) for setting, column in columns}

    def _problem_type(self, split: Dataset) -> str:
        data = self.config.data
        if isinstance(data.label, list):
            return MULTI
        feature = split.features[data.label]
        lists = hasattr(feature, "feature")
        if data.problem_type in (SINGLE, MULTI) and lists != (data.problem_type == MULTI):
            reason = f"the column {data.label!r} has {'lists of labels' if lists else 'one label an example'}"
            fix = f"{MULTI if lists else SINGLE}, or another column"
            raise ArgumentsError(Problem("data.problem_type", data.problem_type, reason, fix))
        if data.problem_type is not None:
            return data.problem_type
        if lists:
            return MULTI
        return REGRESSION if str(feature.dtype).startswith(("float", "double", "decimal")) else SINGLE

    def _names(self, raw: DatasetDict, problem_type: str) -> list[str]:
        data = self.config.data
        if problem_type == REGRESSION:
            return []
        if isinstance(data.label, list):
            return data.labels or data.label
        return label_names(data.labels, raw, data.label)

    def _labels(self, split: Dataset, problem_type: str, names: list[str], where: str) -> list[Any]:
        data = self.config.data
        if isinstance(data.label, list):
            columns = [[_has(value, column, where) for value in split[column]] for column in data.label]
            return [list(row) for row in zip(*columns, strict=True)]
        values = split[data.label]
        if problem_type == REGRESSION:
            return [_number(value, data.label) for value in values]
        numbers = numbers_of(split, data.label, names, where)
        if problem_type == SINGLE:
            return [numbers[value] for value in values]
        present = [{numbers[value] for value in row} for row in values]
        return [[float(number in row) for number in range(len(names))] for row in present]


def _has(value: Any, column: str, where: str) -> float:
    if value not in (0, 1):
        reason = f"a column of one of several labels has 0 and 1, and in data.{where} this one has {value!r}"
        fix = "numbers 0 and 1 there, or data.filter to leave those examples out"
        raise ArgumentsError(Problem("data.label", column, reason, fix))
    return float(value)


def _number(value: Any, column: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        reason = f"for regression it must be a number, and {value!r} is none"
        fix = "a column of numbers, or data.problem_type: single_label_classification"
        raise ArgumentsError(Problem("data.label", column, reason, fix)) from None


def _several(prediction: EvalPrediction) -> dict[str, float]:
    return metrics.several_labels(metrics.first(prediction.predictions) > 0, prediction.label_ids)


def _estimated(prediction: EvalPrediction) -> dict[str, float]:
    return metrics.regression(metrics.first(prediction.predictions).reshape(-1), prediction.label_ids)


_METRICS = {SINGLE: metrics.one_label, MULTI: _several, REGRESSION: _estimated}

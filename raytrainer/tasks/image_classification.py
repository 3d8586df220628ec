"""Worker: pictures, and what they show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from datasets import Dataset, DatasetDict, Features, Image, Value
from transformers import AutoModelForImageClassification, Trainer, TrainingArguments
from transformers.trainer_utils import PredictionOutput

from raytrainer.config.schema import ImageClassification
from raytrainer.errors import ArgumentsError, Problem
from raytrainer.tasks import metrics
from raytrainer.tasks.labels import label_names, model_labels, numbers_of
from raytrainer.tasks.pictures import PictureCollator, as_array, channels, new_processor, picture, statistics
from raytrainer.tasks.task import Prepared, TaskOf

_FEATURES = Features({"pixel_values": Image(), "labels": Value("int64")})
_MEASURED = 1000  # pictures, for mean and deviation


class ImageClassificationTask(TaskOf):
    """Worker: see :class:`raytrainer.config.schema.ImageClassification`."""

    auto = AutoModelForImageClassification
    config: ImageClassification

    def columns(self) -> dict[str, str]:
        return {"image": self.config.data.image, "label": self.config.data.label}

    def prepare(self, raw: DatasetDict, processor: Any) -> tuple[DatasetDict, dict[str, Any]]:
        data = self.config.data
        names = label_names(data.labels, raw, data.label)
        stored = {name: self._found(_as_stored(split, data.image), name) for name, split in raw.items()}
        black_and_white = self._range(stored["train"])
        splits = {}
        for name, split in stored.items():
            numbers = numbers_of(split, data.label, names, name)

            def encode(
                rows: dict[str, list[Any]], at: list[int], name: str = name, numbers: dict[Any, int] = numbers
            ) -> dict[str, list[Any]]:
                pairs = zip(rows[data.image], at, strict=True)
                pictures = [self._picture(value, black_and_white, f"example {i} of data.{name}") for value, i in pairs]
                return {"pixel_values": pictures, "labels": [numbers[label] for label in rows[data.label]]}

            splits[name] = split.map(
                encode, batched=True, with_indices=True, remove_columns=split.column_names, features=_FEATURES
            )
        some = splits["train"].select(range(0, len(splits["train"]), -(-len(splits["train"]) // _MEASURED)))
        measured = statistics(row["pixel_values"] for row in some)
        return DatasetDict(splits), {"labels": names, "black_and_white": black_and_white, **measured}

    def model_settings(self, facts: dict[str, Any]) -> dict[str, Any]:
        return model_labels(facts["labels"])

    def trainer(self, model: Any, arguments: TrainingArguments, prepared: Prepared) -> Trainer:
        processor = prepared.processor or new_processor(model.config, prepared.facts)
        return Trainer(
            model=model,
            args=arguments,
            train_dataset=prepared.splits["train"],
            eval_dataset=prepared.eval,
            processing_class=processor,
            data_collator=PictureCollator(processor, "L" if channels(model.config) == 1 else "RGB"),
            compute_metrics=metrics.one_label,
        )

    def rows(self, output: PredictionOutput, prepared: Prepared) -> Iterator[dict[str, Any]]:
        for scores in metrics.first(output.predictions):
            yield metrics.likeliest(scores, prepared.facts["labels"])

    def _found(self, split: Dataset, name: str) -> Dataset:
        """Make paths absolute: they are relative to this folder, or to the data's."""
        column, files = self.config.data.image, getattr(self.config.data, name)
        first = split[0][column]
        if not isinstance(first, str) or os.path.exists(first):
            return split
        # What is held out comes from the training data.
        files = files if isinstance(files, str | list) else self.config.data.train
        folder = os.path.dirname(os.path.abspath(os.path.expanduser(files if isinstance(files, str) else files[0])))
        return split.map(lambda path: {column: os.path.join(folder, path)}, input_columns=column)

    def _range(self, training: Dataset) -> tuple[float, float] | None:
        """Return what is black and what is white, None where pictures are files that say so."""
        column = self.config.data.image
        low, high = 0.0, 0.0
        for at, value in enumerate(training[column]):
            array = self._array(value, f"example {at} of data.train")
            if array is None:
                return None
            low, high = min(low, float(array.min())), max(high, float(array.max()))
        return low, high

    def _array(self, value: Any, where: str) -> Any:
        try:
            return as_array(value)
        except (OSError, ValueError) as error:
            raise self._mistake(where, error) from error

    def _picture(self, value: Any, black_and_white: tuple[float, float] | None, where: str) -> Any:
        try:
            return picture(value, black_and_white)
        except (OSError, ValueError, SyntaxError) as error:  # PIL says SyntaxError of some broken files
            raise self._mistake(where, error) from error

    def _mistake(self, where: str, error: Exception) -> ArgumentsError:
        fix = "a file of a picture, its bytes, or an array of height x width (x channels)"
        return ArgumentsError(Problem("data.image", self.config.data.image, f"{where} is no picture: {error}", fix))


def _as_stored(split: Dataset, column: str) -> Dataset:
    # Not decoded: files are kept as they are.
    is_image = isinstance(split.features[column], Image)
    return split.cast_column(column, Image(decode=False)) if is_image else split

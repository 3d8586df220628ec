"""What a built-in task is."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from datasets import Dataset, DatasetDict
from transformers import AutoConfig, Trainer, TrainingArguments
from transformers.trainer_utils import PredictionOutput

from raytrainer.errors import ArgumentsError, Problem


@dataclass(frozen=True)
class Prepared:
    """Examples as the trainer takes them.

    Args:
        splits: ``train`` and, where the config has them, ``eval`` and ``test``.
        processor: the tokenizer, or the image processor.
        facts: what the task found in the data, JSON types: names of labels, for example.
    """

    splits: DatasetDict
    processor: Any
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def eval(self) -> Dataset | None:
        return self.splits.get("eval")


class TaskOf(abc.ABC):
    """Worker: one task, for one config.

    Args:
        config: the task's.

    Attributes:
        auto: which of transformers' Auto classes loads the model.
        ends: what a tokenizer that is trained on the data puts around a text: ``pair`` for encoders, ``eos`` for
            texts that a decoder ends, ``none``.
    """

    auto: ClassVar[Any]
    ends: ClassVar[str] = "pair"

    def __init__(self, config: Any) -> None:
        self.config = config

    @abc.abstractmethod
    def columns(self) -> dict[str, str]:
        """Return the columns that every split must have, by setting in the config's ``data``."""

    def texts(self, split: Dataset) -> Iterable[str]:
        """Return what a tokenizer is trained on; only of tasks that have texts."""
        raise NotImplementedError

    @abc.abstractmethod
    def prepare(self, raw: DatasetDict, processor: Any) -> tuple[DatasetDict, dict[str, Any]]:
        """Turn examples as they were read into what the model takes.

        Returns:
            The splits, and facts about the data that the rest of the task needs, JSON types.

        Raises:
            UserError: the data is not what the task needs.
        """

    def model_settings(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return the entries of the model's configuration that follow from the data."""
        return {}

    @abc.abstractmethod
    def trainer(self, model: Any, arguments: TrainingArguments, prepared: Prepared) -> Trainer:
        """Build the trainer, with collator and metrics."""

    @abc.abstractmethod
    def rows(self, output: PredictionOutput, prepared: Prepared) -> Iterator[dict[str, Any]]:
        """Return what was predicted for each test example, JSON types."""


def max_length(config: Any, processor: Any, otherwise: int = 512) -> int:
    """Return how many tokens an example has at most: what the config says, else what model and tokenizer know.

    Args:
        config: a task's.
        processor: its tokenizer.
        otherwise: where nobody says.

    Raises:
        UserError: the config asks for more than its new model has positions for.
    """
    asked, positions = config.data.max_length, positions_of_new_model(config.model.from_config)
    if asked is not None and positions is not None and asked > positions:
        fix = f"at most {positions}, or model.from_config.max_position_embeddings"
        raise ArgumentsError(Problem("data.max_length", asked, f"the model has positions for {positions} tokens", fix))
    known = processor.model_max_length
    # transformers says about 1e30 where it does not know.
    return asked or min(known if known < 1e9 else otherwise, positions or otherwise)


def positions_of_new_model(from_config: dict[str, Any] | None) -> int | None:
    """Return how many tokens a new model has positions for; None where nothing says."""
    if from_config is None:
        return None
    try:
        model = AutoConfig.for_model(**from_config)
    except Exception:  # what is wrong with it is told when the model is made
        return None
    positions = getattr(model, "max_position_embeddings", None)
    # RoBERTa and its kin count from behind the padding token.
    return positions - 2 if positions and "roberta" in from_config["model_type"] else positions

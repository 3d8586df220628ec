"""Worker: what the tasks share that learn a language from running text."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import EvalPrediction, Trainer, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput

from raytrainer.config.schema import CausalLM, MaskedLM
from raytrainer.tasks.task import Prepared, TaskOf
from raytrainer.tasks.texts import texts_in


class LanguageModelingTask(TaskOf):
    """Worker: a task whose examples are tokens, and whose labels are tokens too.

    Attributes:
        shift: how many places before a token the model says what it will be: 1 for what comes next.
    """

    config: CausalLM | MaskedLM
    shift: ClassVar[int]

    def columns(self) -> dict[str, str]:
        return {"text": self.config.data.text}

    def texts(self, split: Dataset) -> Iterable[str]:
        return texts_in(split[self.config.data.text], "text", self.config.data.text)

    @abc.abstractmethod
    def collator(self, tokenizer: Any) -> Callable[[list[dict[str, Any]]], Any]:
        """Return what makes a batch of examples, labels included."""

    def trainer(self, model: Any, arguments: TrainingArguments, prepared: Prepared) -> Trainer:
        return LanguageModelTrainer(
            model=model,
            args=arguments,
            train_dataset=prepared.splits["train"],
            eval_dataset=prepared.eval,
            processing_class=prepared.processor,
            data_collator=self.collator(prepared.processor),
            compute_metrics=_accuracy,
            preprocess_logits_for_metrics=lambda logits, labels: token_sums(logits, labels, self.shift),
        )

    def rows(self, output: PredictionOutput, prepared: Prepared) -> Iterator[dict[str, Any]]:
        for loss, right, tokens in np.asarray(output.predictions, dtype=float):
            yield {"loss": loss / max(tokens, 1), "accuracy": right / max(tokens, 1), "tokens": int(tokens)}


class LanguageModelTrainer(Trainer):
    """Worker: transformers' Trainer, whose evaluations say the loss of all their tokens, and the perplexity.

    transformers takes the mean over batches, which weighs a token by how few others are in its batch, and so depends
    on the size of batches and the number of workers.
    """

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Evaluate as transformers does."""
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        assert output.metrics is not None
        if output.predictions is not None:
            losses, _, tokens = np.asarray(output.predictions, dtype=float).sum(axis=0)
            loss = float(losses / max(tokens, 1))
            exact = {"loss": loss, "perplexity": float(np.exp(loss))}
            output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in exact.items()})
        return output


def token_sums(logits: Any, labels: Tensor, shift: int) -> Tensor:
    """Add up what is known of each example's tokens, on the worker, so that no logits travel.

    Args:
        logits: shape (examples, tokens, vocabulary); models of some families return more beside them.
        labels: shape (examples, tokens), -100 where nothing is to be said.
        shift: see :class:`LanguageModelingTask`.

    Returns:
        For each example the sum of the tokens' losses in nats, how many of them the model's first choice was, and how
        many there are: shape (examples, 3).
    """
    logits = logits[0] if isinstance(logits, tuple) else logits
    logits, labels = logits[:, : logits.shape[1] - shift], labels[:, shift:]
    losses = cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=-100, reduction="none")
    right = logits.argmax(dim=-1) == labels
    return torch.stack([losses.sum(1), right.sum(1).float(), (labels != -100).sum(1).float()], dim=1)


def _accuracy(prediction: EvalPrediction) -> dict[str, float]:
    _, right, tokens = np.asarray(prediction.predictions, dtype=float).sum(axis=0)
    return {"accuracy": float(right / max(tokens, 1))}

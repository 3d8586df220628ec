"""Tiny trainings that the tests run twice: with bare transformers under torchrun, and with RayTrainer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    EvalPrediction,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Recipe:
    """Everything that a trainer's constructor is given, but the training arguments' class."""

    build: Callable[[], dict[str, Any]]
    arguments: dict[str, Any]
    seq2seq: bool
    predict: dict[str, Any] = field(default_factory=dict)
    loss_scale: str = "transformers"


def tokenizer() -> PreTrainedTokenizerFast:
    """Characters; no file, no hub."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    vocabulary = {name: index for index, name in enumerate(["<pad>", "</s>", "<unk>", *LETTERS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def words(count: int, seed: int) -> list[str]:
    """Random words of uneven lengths, 1 to 9 letters."""
    draw = np.random.default_rng(seed)
    return ["".join(draw.choice(list(LETTERS), size=draw.integers(1, 10))) for _ in range(count)]


def reverse_words() -> dict[str, Any]:
    """Seq2seq: a word to itself backwards. The evaluation set's 11 examples are not a multiple of two workers."""
    chars = tokenizer()
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=len(chars), d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    )
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = 0

    def rows(count: int, seed: int) -> Dataset:
        sources = words(count, seed)
        return Dataset.from_dict(
            {
                "input_ids": [chars(word)["input_ids"] for word in sources],
                "labels": [chars(word[::-1])["input_ids"] for word in sources],
            }
        )

    return {
        "model": model,
        "train_dataset": rows(64, 1),
        "eval_dataset": rows(11, 2),
        "processing_class": chars,
        "data_collator": PadBoth(chars),
        "compute_metrics": exact_match,
    }


class PadBoth:
    """Pads inputs with the pad token and labels with -100."""

    def __init__(self, chars: PreTrainedTokenizerFast) -> None:
        self.pad = DataCollatorWithPadding(chars)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        labels = [torch.tensor(row["labels"]) for row in rows]
        batch = dict(self.pad([{"input_ids": row["input_ids"]} for row in rows]))
        batch["labels"] = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
        return batch


def exact_match(prediction: EvalPrediction) -> dict[str, float]:
    """Share of sequences that are right, and their mean length: uneven lengths show in the second."""
    predictions, label_ids = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    width = min(predictions.shape[1] - 1, label_ids.shape[1])
    guesses, labels = predictions[:, 1 : width + 1], label_ids[:, :width]
    right = ((guesses == labels) | (labels == -100)).all(axis=1)
    return {"exact_match": float(right.mean()), "length": float((predictions > 0).sum(axis=1).mean())}


def tiny_bert(labels: int = 2, vocabulary: int = 32, dropout: float = 0.1) -> PreTrainedModel:
    """A BERT classifier of a few thousand parameters, with dropout, so that random states matter."""
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
            id2label={index: str(index) for index in range(labels)},
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


def vowels(count: int, seed: int) -> Dataset:
    """Words with the label whether the first letter is one of a to m."""
    chars = tokenizer()
    sources = words(count, seed)
    return Dataset.from_dict(
        {"input_ids": [chars(word)["input_ids"] for word in sources], "label": [int(w[0] < "n") for w in sources]}
    )


def classify_words() -> dict[str, Any]:
    """Classification with a model that takes num_items_in_batch and ignores it, as most classifiers do."""
    chars = tokenizer()
    return {
        "model": tiny_bert(vocabulary=len(chars)),
        "train_dataset": vowels(64, 3),
        "eval_dataset": vowels(11, 4),
        "processing_class": chars,
        "compute_metrics": accuracy,
    }


def classify_pictures() -> dict[str, Any]:
    """Classification with a model whose weights are called otherwise where save_pretrained writes them."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = ViTForImageClassification(ViTConfig(image_size=4, patch_size=2, num_channels=1, **sizes))

    def rows(count: int, seed: int) -> Dataset:
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, 2, count)
        pixels = labels[:, None, None, None] + draw.random((count, 1, 4, 4))
        return Dataset.from_dict({"pixel_values": pixels.astype("float32"), "labels": labels}).with_format("torch")

    return {
        "model": model,
        "train_dataset": rows(64, 5),
        "eval_dataset": rows(11, 6),
        "compute_metrics": accuracy,
    }


def continue_words() -> dict[str, Any]:
    """Causal language model that divides its loss by num_items_in_batch, as transformers expects."""
    chars = tokenizer()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(chars), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
        )
    )

    def rows(count: int, seed: int) -> Dataset:
        ids = [chars(word)["input_ids"] for word in words(count, seed)]
        return Dataset.from_dict({"input_ids": ids, "labels": ids})

    return {
        "model": model,
        "train_dataset": rows(64, 5),
        "eval_dataset": rows(11, 6),
        "processing_class": chars,
        "data_collator": PadBoth(chars),
    }


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Share of examples that are right."""
    return {"accuracy": float((np.argmax(prediction.predictions, axis=-1) == prediction.label_ids).mean())}


COMMON: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 3,
    "max_steps": 10,
    "logging_steps": 1,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "save_strategy": "no",
    "learning_rate": 5e-3,
    "seed": 7,
    "report_to": "none",
}

RECIPES = {
    "seq2seq": Recipe(
        reverse_words,
        {**COMMON, "predict_with_generate": True, "generation_max_length": 12},
        seq2seq=True,
        predict={"max_length": 7, "num_beams": 2},
    ),
    "classification": Recipe(classify_words, {**COMMON, "gradient_accumulation_steps": 2}, seq2seq=False),
    "causal": Recipe(continue_words, {**COMMON, "gradient_accumulation_steps": 2}, seq2seq=False, loss_scale="auto"),
}

TIMES = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    """Leave out what measures the clock and not the model."""
    return {name: value for name, value in metrics.items() if not name.endswith(TIMES)}

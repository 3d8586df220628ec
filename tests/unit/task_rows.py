"""What the contract suite needs to know of each task: a tiny model, examples that it can learn, its metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

Example = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One task.

    Args:
        model: the config's ``model``.
        example: makes one; the same every time for the same state of the generator.
        metrics: what an evaluation has beside the loss, without ``eval_``.
        column: a key of the config's ``data`` that names a column.
        data: other keys of ``data``.
        training: training arguments beside those of all tasks.
        strange: changes an example's label to one that no other example has; None for tasks without labels.
    """

    model: dict[str, Any]
    example: Callable[[Random], Example]
    metrics: tuple[str, ...]
    column: str
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    strange: Callable[[Example], Example] | None = None


SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
BERT = {"from_config": {"model_type": "bert", **SMALL, "initializer_range": 0.2}, "tokenizer": "words"}
LLAMA = {"from_config": {"model_type": "llama", **SMALL, "initializer_range": 0.2}, "tokenizer": "words"}
T5 = {
    "from_config": {"model_type": "t5", "d_model": 32, "d_kv": 16, "d_ff": 32, "num_heads": 2, "num_layers": 1},
    "tokenizer": "characters",
}
VIT = {"from_config": {"model_type": "vit", **SMALL, "image_size": 4, "patch_size": 2, "num_channels": 1}}
NUMBERS = ("zero", "one", "two", "three", "four", "five")
WORDS = {"good": ("fine", "great", "lovely"), "bad": ("poor", "awful", "sad")}


def text_and_label(rng: Random) -> Example:
    label = rng.choice(["bad", "good"])
    return {"text": " ".join(rng.choices(WORDS[label], k=rng.randint(2, 5))), "label": label}


def words_and_tags(rng: Random) -> Example:
    name = [("Ada", "B-PER"), ("Lovelace", "I-PER")][: rng.randint(1, 2)]
    words = [("in", "O"), ("Paris", "B-LOC"), ("met", "O"), *name, ("of", "O")]
    words = words[rng.randint(0, 2) :]
    return {"tokens": [word for word, _ in words], "tags": [tag for _, tag in words]}


def picture_and_label(rng: Random) -> Example:
    label = rng.choice(["dark", "light"])
    low = 0 if label == "dark" else 9
    return {"image": [[rng.randint(low, low + 7) for _ in range(5)] for _ in range(5)], "label": label}


def running_text(rng: Random) -> Example:
    first = rng.randrange(6)
    return {"text": " ".join(NUMBERS[(first + i) % 6] for i in range(rng.randint(3, 9)))}


def number_and_digit(rng: Random) -> Example:
    digits = rng.choices(range(6), k=rng.randint(1, 3))
    return {"source": " ".join(NUMBERS[digit] for digit in digits), "target": "".join(map(str, digits))}


CLASSIFICATION = ("accuracy", "f1", "precision", "recall", "matthews")
ROWS = {
    "text-classification": Row(
        model=BERT,
        example=text_and_label,
        metrics=CLASSIFICATION,
        column="text",
        strange=lambda example: {**example, "label": "ugly"},
    ),
    "token-classification": Row(
        model=BERT,
        example=words_and_tags,
        metrics=("accuracy", "f1", "precision", "recall"),
        column="tags",
        strange=lambda example: {**example, "tags": ["B-ORG"] * len(example["tags"])},
    ),
    "image-classification": Row(
        model=VIT,
        example=picture_and_label,
        metrics=CLASSIFICATION,
        column="image",
        strange=lambda example: {**example, "label": "grey"},
    ),
    "causal-lm": Row(
        model=LLAMA, example=running_text, metrics=("accuracy", "perplexity"), column="text", data={"packing": False}
    ),
    "masked-lm": Row(
        model=BERT, example=running_text, metrics=("accuracy", "perplexity"), column="text", data={"packing": False}
    ),
    "seq2seq": Row(
        model=T5,
        example=number_and_digit,
        metrics=("exact_match", "chrf"),
        column="target",
        training={"predict_with_generate": True},
    ),
}

"""The kinds of config, one a task, and two for the user's own code."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, TypeAdapter

from raytrainer.config.data import (
    CausalLMData,
    ImageClassificationData,
    MaskedLMData,
    Seq2SeqData,
    TextClassificationData,
    TokenClassificationData,
)
from raytrainer.config.section import Common, Section, Trained, Word, form


class TrainedTokenizer(Section):
    """A tokenizer that is trained on the training data."""

    kind: Literal["characters", "words", "bpe"]
    """A token is a character, a word, or what byte-pair encoding finds."""
    vocab_size: Annotated[int, Field(ge=10)] | None = None
    """Tokens at most. Default: every character; 30,000 words; 8,000 pieces."""


class Model(Section):
    """The model: a pretrained one by name, or a new one from a configuration."""

    name: Word | None = None
    """A model on the hub, or the folder of one."""
    revision: str | None = None
    """A version of it."""
    from_config: dict[str, Any] | None = None
    """A new model instead: model_type, and what the configuration of that type takes, as transformers calls it."""
    tokenizer: Word | TrainedTokenizer | None = None
    """characters, words, bpe: trained on the data. Else one by name or folder. Default: the model's own."""
    peft: dict[str, Any] | None = None
    """Fields of peft.LoraConfig: train an adapter (LoRA) and leave the model's own weights as they are."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    """What the weights are loaded as; auto is what they are saved as. Default: float32."""
    attn_implementation: str | None = None
    """How attention is computed, for example sdpa, eager, flash_attention_2."""
    trust_remote_code: bool = False
    """Run code that comes with the model."""


class Task(Trained):
    """A built-in task."""

    model: Model


class TextClassification(Task):
    """Say what a text, or a pair of texts, is: one label, several, or a number."""

    task: Literal["text-classification"]
    data: TextClassificationData


class TokenClassification(Task):
    """Tag each word of a text."""

    task: Literal["token-classification"]
    data: TokenClassificationData


class CausalLM(Task):
    """Go on with a text."""

    task: Literal["causal-lm"]
    data: CausalLMData


class MaskedLM(Task):
    """Fill the holes in a text."""

    task: Literal["masked-lm"]
    data: MaskedLMData


class Seq2Seq(Task):
    """Turn a text into another one: summaries, translations, anything."""

    task: Literal["seq2seq"]
    data: Seq2SeqData
    metrics: list[Literal["exact_match", "chrf", "bleu", "rouge", "wer", "cer"]] = ["exact_match", "chrf"]
    """What the generated texts are measured by, with training.predict_with_generate."""


class ImageClassification(Task):
    """Say what a picture shows."""

    task: Literal["image-classification"]
    data: ImageClassificationData


class OwnTrainer(Trained):
    """A trainer that a function of the user's builds on every worker."""

    trainer: Annotated[
        str, Field(pattern=r"^[\w.]+:[\w.]+$", json_schema_extra=form("module:function, for example my_module:build"))
    ]
    """module:function. It is called with the training arguments and, if it takes two, this config; it returns a
    transformers Trainer."""
    model: dict[str, Any] = {}
    """Whatever the function makes of it."""
    data: dict[str, Any] = {}
    """Whatever the function makes of it."""


class Script(Common):
    """A script that runs on every worker, as by ``raytrainer run``."""

    script: Word
    """Path of the script."""
    args: list[str] = []
    """Its arguments."""


TASKS: dict[str, type[Task]] = {
    "text-classification": TextClassification,
    "token-classification": TokenClassification,
    "causal-lm": CausalLM,
    "masked-lm": MaskedLM,
    "seq2seq": Seq2Seq,
    "image-classification": ImageClassification,
}


def kind_of(values: Any) -> str | None:
    """Return which kind of config a mapping is: a task's name, ``trainer`` or ``script``; None for none of them."""
    if not isinstance(values, dict):
        values = vars(values)
    own = [name for name in ("trainer", "script") if name in values]
    task = values.get("task")
    if own:
        return own[0]
    return task if isinstance(task, str) and task in TASKS else None


Config = Annotated[
    Annotated[TextClassification, Tag("text-classification")]
    | Annotated[TokenClassification, Tag("token-classification")]
    | Annotated[CausalLM, Tag("causal-lm")]
    | Annotated[MaskedLM, Tag("masked-lm")]
    | Annotated[Seq2Seq, Tag("seq2seq")]
    | Annotated[ImageClassification, Tag("image-classification")]
    | Annotated[OwnTrainer, Tag("trainer")]
    | Annotated[Script, Tag("script")],
    Discriminator(kind_of),
]
CONFIG: TypeAdapter[Any] = TypeAdapter(Config)
"""Checks a mapping and makes the config of it."""

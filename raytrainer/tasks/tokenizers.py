"""Worker: tokenizers that are trained on the data, so that nothing has to come from a hub."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = {
    **{"pad_token": "<pad>", "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"},
    **{"unk_token": "<unk>", "mask_token": "<mask>"},
}
_SIZES = {"characters": 100_000, "words": 30_000, "bpe": 8_000}
_TEMPLATES = {
    "pair": ("<s> $A </s>", "<s> $A </s> $B:1 </s>:1"),
    "eos": ("$A </s>", "$A </s> $B:1 </s>:1"),
    "none": ("$A", "$A $B:1"),
}


def train_tokenizer(
    kind: str, vocab_size: int | None, texts: Iterable[str], ends: str, max_length: int | None
) -> PreTrainedTokenizerFast:
    """Train a tokenizer.

    Args:
        kind: ``characters``, ``words`` or ``bpe``.
        vocab_size: tokens at most, None for the kind's default.
        texts: what to train it on.
        ends: what it puts around a text: ``pair``, ``eos`` or ``none``.
        max_length: tokens of a text at most, None for no limit.

    Returns:
        A tokenizer with the special tokens that encoders, decoders and masking need.
    """
    special = list(dict.fromkeys(SPECIAL.values()))
    options: dict[str, Any] = {
        "vocab_size": vocab_size or _SIZES[kind],
        "special_tokens": special,
        "show_progress": False,
    }
    trainer: trainers.Trainer
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options)
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL["unk_token"]))
        if kind == "characters":
            tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
            tokenizer.decoder = decoders.Fuse()
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(**options)
    tokenizer.train_from_iterator(texts, trainer)
    single, pair = _TEMPLATES[ends]
    numbered = [(token, tokenizer.token_to_id(token)) for token in special]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=numbered)
    limit = {"model_max_length": max_length} if max_length else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **SPECIAL, **limit)

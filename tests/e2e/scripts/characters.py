"""A module beside the scripts: a tokenizer of characters, which needs no file and no hub."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SIGNS = "abcdefghijklmnopqrstuvwxyz "


def character_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer whose tokens are letters and the blank."""
    vocabulary = {name: index for index, name in enumerate(["<pad>", "</s>", "<unk>", *SIGNS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")

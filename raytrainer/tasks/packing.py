"""Worker: running text as examples of tokens: blocks filled with one text after another, or one text each."""

from __future__ import annotations

from typing import Any

from datasets import Dataset, DatasetDict, Features, List, Value

from raytrainer.config.schema import CausalLM, MaskedLM
from raytrainer.errors import ArgumentsError, Problem
from raytrainer.tasks.task import max_length
from raytrainer.tasks.texts import texts_in

_FEATURES = Features({"input_ids": List(Value("int32"))})


def token_examples(config: CausalLM | MaskedLM, raw: DatasetDict, tokenizer: Any) -> DatasetDict:
    """Turn texts into examples with the one column ``input_ids``.

    Each text is what the tokenizer makes of it, with its end token last; texts without a token that it knows are left
    out. Packed, all texts of a split are one row of tokens, cut every ``data.max_length`` tokens; what does not fill
    the last block is dropped. Else a text is an example, cut after ``data.max_length`` tokens.

    Raises:
        UserError: there is no end token, no text, or too little of it for one block.
    """
    data, length = config.data, max_length(config, tokenizer)
    encode = _Encoding(tokenizer, data.text, None if data.packing else length)
    splits = {}
    for name, split in raw.items():
        make = _Packing(encode, length) if data.packing else encode
        splits[name] = _mapped(split, make)
        if len(splits[name]):
            continue
        if isinstance(make, _Packing) and make.left:
            reason = f"data.{name} has {len(make.left)} tokens in all, too few for one block"
            fix = f"{len(make.left)} or less, data.packing: false, or more text"
            raise ArgumentsError(Problem("data.max_length", length, reason, fix))
        raise ArgumentsError(
            Problem("data.text", data.text, f"no text of data.{name} has a token in it", "another column")
        )
    return DatasetDict(splits)


def _mapped(split: Dataset, make: Any) -> Dataset:
    # Not through files of datasets' own: what one batch leaves over belongs to the next one.
    return split.map(
        lambda rows: {"input_ids": make(rows)},
        batched=True,
        remove_columns=split.column_names,
        features=_FEATURES,
        load_from_cache_file=False,
    )


class _Encoding:
    def __init__(self, tokenizer: Any, column: str, length: int | None) -> None:
        self._tokenizer, self._column, self._length = tokenizer, column, length
        self._special = set(tokenizer.all_special_ids)
        self._end = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
        if self._end is None:
            reason = "it has no token for the end of a text (eos or sep)"
            name = type(tokenizer).__name__
            raise ArgumentsError(Problem("model.tokenizer", name, reason, "one that has: characters, words or bpe"))

    def __call__(self, rows: dict[str, list[Any]]) -> list[list[int]]:
        texts = list(texts_in(rows[self._column], "text", self._column))
        cut = {"truncation": True, "max_length": self._length} if self._length else {}
        encoded = self._tokenizer(texts, verbose=False, **cut)["input_ids"]
        return [self._ended(ids) for ids in encoded if any(token not in self._special for token in ids)]

    def _ended(self, ids: list[int]) -> list[int]:
        """A text that was cut has not ended."""
        return ids if ids[-1] == self._end or len(ids) == self._length else [*ids, self._end]


class _Packing:
    def __init__(self, encode: _Encoding, length: int) -> None:
        self._encode, self._length = encode, length
        self.left: list[int] = []

    def __call__(self, rows: dict[str, list[Any]]) -> list[list[int]]:
        tokens = self.left + [token for ids in self._encode(rows) for token in ids]
        whole = len(tokens) - len(tokens) % self._length
        self.left = tokens[whole:]
        return [tokens[start : start + self._length] for start in range(0, whole, self._length)]

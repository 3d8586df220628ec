"""Worker: columns of text, and text that came out of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from raytrainer.errors import ArgumentsError, Problem


def texts_in(values: Iterable[Any], setting: str, column: str) -> Iterator[str]:
    """Yield the texts of a column.

    Args:
        values: what is in it.
        setting: which setting names it, for the error.
        column: its name.

    Raises:
        UserError: something in it is no text.
    """
    for value in values:
        if not isinstance(value, str):
            reason = "some examples have none" if value is None else f"it must be text, and {value!r} is none"
            fix = "data.filter to leave such examples out, another column, or mend the data"
            raise ArgumentsError(Problem(f"data.{setting}", column, reason, fix))
        yield value


def decode_written(tokenizer: Any, ids: Any) -> list[str]:
    """Turn what a model wrote into texts.

    Args:
        tokenizer: its tokenizer.
        ids: tokens, shape (examples, tokens), filled up with -100 where workers wrote texts of different lengths.
    """
    filled = np.where(np.less(ids, 0), tokenizer.pad_token_id, ids)
    return [text.strip() for text in tokenizer.batch_decode(filled, skip_special_tokens=True)]


def decode_wanted(tokenizer: Any, labels: Any) -> list[str]:
    """Turn labels into texts; what the tokenizer does not know stays in them as its unknown token.

    So a text with an unknown character is never matched by one that lacks it.

    Args:
        tokenizer: the model's.
        labels: tokens, shape (examples, tokens), -100 where there is none.
    """
    ends = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}
    left_out = (set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}) | ends
    rows = [[int(token) for token in row if token >= 0 and token not in left_out] for row in np.asarray(labels)]
    return [text.strip() for text in tokenizer.batch_decode(rows)]

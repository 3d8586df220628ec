"""The models of gpu.py: random weights, random tokens, nothing to download; and what a step of them computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Subject:
    """A model, and the batches it is trained with.

    Args:
        name: for the table.
        config: transformers' configuration class and its values.
        length: tokens of a row; an encoder-decoder's target has a quarter of it.
        batch: rows of a step.
    """

    name: str
    config: tuple[str, dict[str, Any]]
    length: int
    batch: int

    @property
    def vocabulary(self) -> int:
        return int(self.config[1]["vocab_size"])

    @property
    def seq2seq(self) -> bool:
        return self.config[0] == "T5Config"

    def build(self, attention: str | None = None) -> Any:
        """Return the model, the same weights at every call; attention as transformers chooses where none is named."""
        import transformers

        torch.manual_seed(0)
        config = getattr(transformers, self.config[0])(**self.config[1])
        auto: Any = transformers.AutoModelForSeq2SeqLM if self.seq2seq else transformers.AutoModelForCausalLM
        return auto.from_config(config, **({"attn_implementation": attention} if attention else {}))

    def row(self, number: int, length: int | None = None) -> dict[str, torch.Tensor]:
        """Return a row of random tokens, the same for the same number."""
        drawn = torch.Generator().manual_seed(number)
        tokens = torch.randint(2, self.vocabulary, (length or self.length,), generator=drawn)
        return {"input_ids": tokens, "labels": tokens[: len(tokens) // 4] if self.seq2seq else tokens}

    @property
    def tokens(self) -> int:
        """Tokens of a batch of full rows: those that go into the model, targets of a decoder included."""
        return self.batch * (self.length + (self.length // 4 if self.seq2seq else 0))

    def flops(self) -> float:
        """Return the operations of a batch's forward and backward pass: all matrix products, attention in full."""
        with torch.device("meta"):
            model = self.build("eager")
            row = torch.zeros(self.batch, self.length, dtype=torch.long)
            batch = {"input_ids": row, "labels": row[:, : self.length // 4].contiguous() if self.seq2seq else row}
            if not self.seq2seq:
                # Without it transformers looks at the positions' values, and a meta tensor has none.
                batch["attention_mask"] = torch.ones_like(row)
        model.train()
        with FlopCounterMode(display=False) as counter:
            model(**batch).loss.backward()
        return float(counter.get_total_flops())


def llama(name: str, layers: int, width: int, heads: int, inner: int, length: int, batch: int, **more: Any) -> Subject:
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads, "vocab_size": 32000}
    sizes |= {"num_key_value_heads": heads, "intermediate_size": inner, "max_position_embeddings": length}
    # Nothing that is generated: without it transformers keeps keys and values of every layer.
    return Subject(name, ("LlamaConfig", {**sizes, "use_cache": False, **more}), length, batch)


def t5(name: str, layers: int, width: int, heads: int, inner: int, length: int, batch: int, vocabulary: int) -> Subject:
    sizes = {"num_layers": layers, "d_model": width, "num_heads": heads, "d_ff": inner, "vocab_size": vocabulary}
    more = {"d_kv": width // heads, "decoder_start_token_id": 0, "use_cache": False}
    return Subject(name, ("T5Config", {**sizes, **more}), length, batch)


FULL = (
    llama("decoder 124M", 12, 768, 12, 2048, 1024, 32, vocab_size=50304, tie_word_embeddings=True),
    llama("decoder 1B", 17, 2048, 16, 5632, 1024, 8),
    t5("T5 220M", 12, 768, 12, 3072, 512, 32, 32128),
)
TOY = (
    llama("decoder toy", 2, 32, 2, 64, 32, 4, vocab_size=128),
    t5("T5 toy", 1, 32, 2, 64, 32, 4, 128),
)


class Rows(Dataset[dict[str, torch.Tensor]]):
    """Rows of a subject, as many as asked for; made when they are read, a few different ones.

    Args:
        subject: whose.
        count: how many.
        lengths: of the rows in turn; None for full rows.
    """

    _DIFFERENT = 64

    def __init__(self, subject: Subject, count: int, lengths: tuple[int, ...] | None = None) -> None:
        of = lengths or (subject.length,)
        self._rows = [subject.row(number, of[number % len(of)]) for number in range(self._DIFFERENT)]
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return self._rows[number % self._DIFFERENT]


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Pad rows to the longest of them; a label that is padding counts nothing."""
    if len({len(row["input_ids"]) for row in rows}) == 1:
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    pad = torch.nn.utils.rnn.pad_sequence
    batch = {name: pad([row[name] for row in rows], True, fill) for name, fill in (("input_ids", 0), ("labels", -100))}
    return {**batch, "attention_mask": pad([torch.ones_like(row["input_ids"]) for row in rows], True, 0)}


def packed(subject: Subject, rows: Rows, count: int) -> Rows:
    """Return rows of full length made of the others' tokens, one after the other."""
    made = Rows(subject, count)
    tokens = torch.cat([rows[number]["input_ids"] for number in range(4 * Rows._DIFFERENT)])
    whole = tokens[: len(tokens) // subject.length * subject.length].reshape(-1, subject.length)
    made._rows = [{"input_ids": row, "labels": row} for row in whole.repeat(Rows._DIFFERENT, 1)[: Rows._DIFFERENT]]
    return made

"""Writes the data of an example's config: ``python examples/data.py NAME`` makes examples/data/NAME/*.jsonl."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Rows = Iterable[dict[str, Any]]


def main() -> None:
    """Write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(DATASETS))
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "data", help="default: %(default)s")
    options = parser.parse_args()
    for split, rows in DATASETS[options.name]().items():
        file = options.folder / options.name / f"{split}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{file}: {len(lines):,} examples")


def names() -> dict[str, Rows]:
    """Names in eight languages, and the language: examples/text_classification.yaml."""
    from names import LANGUAGES, split_names

    train, evaluation = split_names()

    def named(rows: Rows) -> Rows:
        return [{"text": row["text"], "label": LANGUAGES[row["label"]]} for row in rows]

    return {"train": named(train), "eval": named(evaluation)}


def tagged_dates() -> dict[str, Rows]:
    """Dates in twelve languages, each word tagged: examples/token_classification.yaml."""
    from dates import tagged_dates

    train, evaluation = tagged_dates(8_000, 500)
    return {"train": train, "eval": evaluation}


def digits() -> dict[str, Rows]:
    """Handwritten digits of 8 x 8 pixels, from scikit-learn: examples/image_classification.yaml."""
    import random

    from sklearn.datasets import load_digits

    found = load_digits()
    rows = [{"image": i.tolist(), "label": int(n)} for i, n in zip(found.images.astype(int), found.target, strict=True)]
    random.Random(0).shuffle(rows)
    return {"train": rows[300:], "eval": rows[:300]}


def dates() -> dict[str, Rows]:
    """Dates in twelve languages, and in ISO 8601: examples/seq2seq.yaml, examples/masked_lm.yaml."""
    from dates import date_pairs

    train, evaluation = date_pairs(20_000, 500)
    return {"train": train, "eval": evaluation}


def docstrings() -> dict[str, Rows]:
    """The docstrings of Python's standard library: examples/causal_lm.yaml."""
    from docstrings import split_docstrings

    train, evaluation = split_docstrings()
    return {"train": train, "eval": evaluation}


DATASETS: dict[str, Callable[[], dict[str, Rows]]] = {
    "names": names,
    "tagged_dates": tagged_dates,
    "digits": digits,
    "dates": dates,
    "docstrings": docstrings,
}


if __name__ == "__main__":
    main()

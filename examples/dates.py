"""Dates as people write them in twelve languages, paired with ISO 8601, made from the locale data in babel."""

from __future__ import annotations

import random
from datetime import date, timedelta

from babel.dates import format_date
from datasets import Dataset

LOCALES = ("cs", "da", "de", "en", "es", "fi", "fr", "hu", "it", "nl", "pl", "tr")
# "short" is left out: nobody can tell 3/9/21 in English from 3/9/21 in Spanish without knowing the locale.
LENGTHS = ("medium", "long", "full")
FIRST_DAY, LAST_DAY = date(1950, 1, 1), date(2049, 12, 31)


def date_pairs(train_examples: int, eval_examples: int, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Make the training and the evaluation set; no day is in both, or twice in one.

    Args:
        train_examples: rows of the training set.
        eval_examples: rows of the evaluation set; the two together are at most 36,525, the days of a century.
        seed: the same seed gives the same rows.

    Returns:
        Two datasets with the text columns ``source`` ("jueves, 1 de mayo de 1975") and ``target`` ("1975-05-01").
    """
    rng = random.Random(seed)
    days = rng.sample(range((LAST_DAY - FIRST_DAY).days + 1), train_examples + eval_examples)
    rows = [_pair(FIRST_DAY + timedelta(days=day), rng) for day in days]
    return Dataset.from_list(rows[:train_examples]), Dataset.from_list(rows[train_examples:])


def _pair(day: date, rng: random.Random) -> dict[str, str]:
    source = format_date(day, format=rng.choice(LENGTHS), locale=rng.choice(LOCALES))
    return {"source": source, "target": day.isoformat()}

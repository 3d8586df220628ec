"""Dates as people write them in twelve languages, paired with ISO 8601, made from the locale data in babel."""

from __future__ import annotations

import random
import re
from datetime import date, timedelta
from typing import Literal

from babel.dates import DateTimeFormat, format_date, get_date_format, tokenize_pattern
from datasets import Dataset

LOCALES = ("cs", "da", "de", "en", "es", "fi", "fr", "hu", "it", "nl", "pl", "tr")
# "short" is left out: nobody can tell 3/9/21 in English from 3/9/21 in Spanish without knowing the locale.
LENGTHS: tuple[Literal["medium", "long", "full"], ...] = ("medium", "long", "full")
_TAGS = {"d": "DAY", "M": "MONTH", "L": "MONTH", "y": "YEAR", "E": "WEEKDAY", "c": "WEEKDAY"}
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


def tagged_dates(train_examples: int, eval_examples: int, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Make dates whose words are tagged; splits as :func:`date_pairs` makes them.

    Returns:
        Two datasets with the columns ``tokens`` (["1", "de", "mayo", "de", "1975"]) and ``tags`` (["DAY", "O", "MONTH",
        "O", "YEAR"]); the days of the week are WEEKDAY.
    """
    rng = random.Random(seed)
    days = rng.sample(range((LAST_DAY - FIRST_DAY).days + 1), train_examples + eval_examples)
    rows = [_tagged(FIRST_DAY + timedelta(days=day), rng) for day in days]
    return Dataset.from_list(rows[:train_examples]), Dataset.from_list(rows[train_examples:])


def _tagged(day: date, rng: random.Random) -> dict[str, list[str]]:
    length, locale = rng.choice(LENGTHS), rng.choice(LOCALES)
    values, tokens, tags = DateTimeFormat(day, locale), [], []
    for kind, part in tokenize_pattern(get_date_format(length, locale).pattern):
        # A part is text as it is, or a field: its letter, and how often the pattern has it.
        text = part if isinstance(part, str) else values[part[0] * part[1]]
        words = re.findall(r"\w+|[^\w\s]", text)
        tokens += words
        tags += [_TAGS.get(part[0], "O") if kind == "field" and word[0].isalnum() else "O" for word in words]
    return {"tokens": tokens, "tags": tags}


def _pair(day: date, rng: random.Random) -> dict[str, str]:
    source = format_date(day, format=rng.choice(LENGTHS), locale=rng.choice(LOCALES))
    return {"source": source, "target": day.isoformat()}

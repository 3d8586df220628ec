"""Names of countries, languages and currencies, and the language that each is in, from the locale data in babel."""

from __future__ import annotations

import random
from collections import Counter

from babel import Locale
from datasets import ClassLabel, Dataset, Features, Value

LANGUAGES = ("cs", "de", "es", "fi", "fr", "hu", "nl", "tr")


def split_names() -> tuple[Dataset, Dataset]:
    """Make the training and the evaluation set: names of territories, languages and currencies, and their language.

    Returns:
        Two datasets with the columns ``text`` and ``label``; a name that is the same in two languages is in neither.
    """
    names = [(name, language) for language in LANGUAGES for name in sorted(names_in(language))]
    spellings = Counter(name for name, _ in names)
    rows = [{"text": name, "label": language} for name, language in names if spellings[name] == 1]
    random.Random(0).shuffle(rows)
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(LANGUAGES))})
    cut = len(rows) // 10
    return Dataset.from_list(rows[cut:], features=features), Dataset.from_list(rows[:cut], features=features)


def names_in(language: str) -> set[str]:
    """Return what territories, languages and currencies are called in a language."""
    locale = Locale(language)
    return {*locale.territories.values(), *locale.languages.values(), *locale.currencies.values()}

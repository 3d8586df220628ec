"""Numbers, times and values of a sweep, spelt for a reader."""

from __future__ import annotations

import json
import math
import statistics
import textwrap
from collections.abc import Sequence
from typing import Any

NOTHING = "-"
"""What stands where there is no number."""


def cause(error: str) -> str:
    """Return the line of a trial's error that says what went wrong: below it may be what to write instead, indented."""
    lines = [line for line in error.splitlines() if line.strip()]
    return ([line for line in lines if not line[0].isspace()] or lines or [""])[-1].strip()


def number(value: float, digits: int = 4) -> str:
    """Spell a number with the digits that a reader can use."""
    if not math.isfinite(value):
        return NOTHING if math.isnan(value) else str(value)
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.{digits}g}"


def numbers(values: Sequence[float]) -> list[str]:
    """Spell the numbers of a column with the same decimals, so that they can be compared by eye."""
    sizes = [abs(value) for value in values if math.isfinite(value) and value]
    typical = statistics.median(sizes) if sizes else 1.0
    if not 1e-3 <= typical < 1e6:
        return [number(value) for value in values]
    # Four digits of the typical one, and up to two more where the smallest would lose theirs.
    wanted, least = (3 - math.floor(math.log10(size)) for size in (typical, min(sizes, default=1.0)))
    decimals = 0 if all(size == int(size) for size in sizes) else max(0, min(least, wanted + 2))
    return [f"{value:.{decimals}f}" if math.isfinite(value) else number(value) for value in values]


def duration(seconds: float) -> str:
    """Spell a time: ``42 s``, ``3 min 5 s``, ``2 h 14 min``, ``3 d 4 h``."""
    for size, unit, part, of_part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = int(seconds % size // part)
            return f"{int(seconds // size)} {unit}" + (f" {rest} {of_part}" if rest else "")
    return f"{seconds:.0f} s" if seconds >= 10 else f"{number(seconds, 2)} s"


def value_text(value: Any) -> str:
    """Spell a value of a search space."""
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def short_names(keys: Sequence[str]) -> list[str]:
    """Return the last word of each key where that is enough to tell it from the others."""
    last = [key.rpartition(".")[2] for key in keys]
    return [word if last.count(word) == 1 else key for word, key in zip(last, keys, strict=True)]


def folded(name: str, width: int = 14) -> str:
    """Break a long name at its underscores and dots."""
    spaced = name.replace("_", "_ ").replace(".", ". ")
    lines = textwrap.wrap(spaced, width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(line.replace("_ ", "_").replace(". ", ".") for line in lines)

"""Values as JSON types, and of logs what is a number."""

from __future__ import annotations

import math
import numbers
from typing import Any


def only_numbers(logs: dict[str, Any]) -> dict[str, float]:
    """Keep what is a number, as a Python float or int; NaN and infinities stay."""
    numbers_only = {key: value for key, value in logs.items() if isinstance(value, numbers.Number)}
    return {key: value if isinstance(value, bool | int) else float(value) for key, value in numbers_only.items()}  # type: ignore[arg-type]  # numpy's are Numbers too


def plain(value: Any) -> Any:
    """Turn arguments or a model's configuration into JSON types; what has none becomes its text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)

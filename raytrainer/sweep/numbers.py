"""Values as YAML and JSON have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same values, Python's own number, truth value or text for each of numpy's."""
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value

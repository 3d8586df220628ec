"""What settings are made of: a section, and values of a form that several sections have."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


def form(words: str) -> dict[str, Any]:
    """Say in words what a pattern asks for; errors repeat it."""
    return {"x-form": words}


class Section(BaseModel):
    """A mapping in a config file: its keys are these fields and no others; what is loaded does not change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


Count = Annotated[int, Field(ge=1)]
Word = Annotated[str, Field(min_length=1)]
"""Text that is not empty."""
Duration = Annotated[
    str,
    Field(
        pattern=r"^(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?$",
        json_schema_extra=form("hours, minutes and seconds with their units: 30m, 2h, 1h30m, 90s"),
    ),
]
_DURATION = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?")


def seconds(text: str) -> float:
    """Return how many seconds a text such as 1h30m means; 0 for one that means nothing."""
    found = _DURATION.fullmatch(text)
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    return sum(float(found[unit] or 0) * size for unit, size in units.items()) if found else 0.0

"""How a check says what a value is, and refuses it."""

from __future__ import annotations

import inspect
from typing import NoReturn

from raytrainer.errors import ArgumentsError, Problem


def kind_of(value: object) -> str:
    """Name a class, or the class of an object."""
    return value.__name__ if inspect.isclass(value) else type(value).__name__


def refuse(setting: str, value: object, reason: str, fix: str) -> NoReturn:
    """Raise an error with one problem.

    Raises:
        ArgumentsError: always.
    """
    raise ArgumentsError(Problem(setting, value, reason, fix))

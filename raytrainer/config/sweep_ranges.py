"""What is wrong with the values of one key of a search space."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from raytrainer.config.sweep_parameter import Parameter, same
from raytrainer.config.tree import Path
from raytrainer.config.view import Finding


def of_values(at: Path, values: list[Any]) -> Iterator[Finding]:
    """A list has something in it, each value once."""
    if not values:
        yield at, "the list is empty", "a value, or several"
    for number, value in enumerate(values):
        if any(same(value, other) for other in values[:number]):
            yield (*at, number), "it is in the list already", "each value once"
            return


def of_bounds(at: Path, kind: str, numbers: list[float]) -> Iterator[Finding]:
    """Bounds have values between them."""
    low, high, *step = numbers
    if step and step[0] <= 0:
        yield (*at, 2), "a step is above 0", "a number above 0"
    elif kind.endswith("normal"):
        if high <= 0:
            yield (*at, 1), "a standard deviation is above 0", "a number above 0"
    elif low >= high:
        fix = f"[{', '.join(str(number) for number in (high, low, *step))}]" if low > high else "a higher one"
        yield (*at, 1), "the second bound is the higher one" if low > high else f"the bounds are both {low}", fix
    elif "log" in kind and low <= 0:
        yield (*at, 0), "it has no logarithm", f"a number above 0, or {kind.replace('log', '')}"
    elif step:
        bottom, top = Parameter("", kind, bounds=(low, high), quantum=step[0]).ends
        if bottom > top:
            yield (*at, 2), f"no multiple of it is between {low} and {high}", f"a step of at most {high - low:g}"
        elif "log" in kind and bottom <= 0:
            yield (*at, 0), "it has no logarithm", f"a number above 0, or {kind.replace('log', '')}"


def of_condition(at: Path, other: Parameter, wanted: tuple[Any, ...]) -> Iterator[Finding]:
    """A condition is about values that the other key can take."""
    nevers = [json.dumps(value) for value in wanted if not other.takes(value)]
    if not wanted:
        yield at, "the list is empty", f"a value of {other.key}"
    elif other.bounds is not None and not other.whole and other.quantum is None:
        yield at, f"{other.key} is any number, and hardly ever that one", f"a choice or steps for {other.key}"
    elif nevers and other.values:
        choices = ", ".join(json.dumps(value) for value in other.values)
        yield at, f"{other.key} never is {nevers[0]}", f"one of {choices}"
    elif nevers:
        step = f" in steps of {other.quantum}" if other.quantum else ""
        yield at, f"{other.key} never is {nevers[0]}", f"a number of {other.ends[0]} to {other.ends[1]}{step}"

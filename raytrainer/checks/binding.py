"""Which argument of a trainer's constructor is which, whatever the class does with them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments

from raytrainer.checks.wording import refuse
from raytrainer.errors import ArgumentsError, Problem, unknown_name


def bind(kind: type[Trainer], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Give each argument of a constructor call its name, through constructors that pass ``*args, **kwargs`` on.

    Args:
        kind: the trainer's class.
        args: positional arguments.
        kwargs: keyword arguments.

    Returns:
        Name to value of what was passed.

    Raises:
        ArgumentsError: an argument that no constructor of the class takes, or one too many.
    """
    positional: list[str] = []
    known: list[str] = []
    places_go_on = names_go_on = True
    for parameters in _constructors(kind):
        by_kind = {p.name: p.kind for p in parameters}
        if places_go_on:
            positional += [name for name, k in by_kind.items() if k in _POSITIONAL]
            places_go_on = inspect.Parameter.VAR_POSITIONAL in by_kind.values()
        if names_go_on:
            known += [name for name, k in by_kind.items() if k in _NAMED]
            names_go_on = inspect.Parameter.VAR_KEYWORD in by_kind.values()
    if len(args) > len(positional):
        raise ArgumentsError(
            Problem(
                f"{kind.__name__}(...)",
                f"{len(args)} positional arguments",
                f"it takes at most {len(positional)}: {', '.join(positional)}" if positional else "it takes none",
                "pass the rest by name",
            )
        )
    for name in kwargs:
        if not names_go_on and name not in known:
            raise ArgumentsError(
                Problem(name, kwargs[name], f"{kind.__name__} takes no such argument", unknown_name(name, known))
            )
    return {**dict(zip(positional, args, strict=False)), **kwargs}


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _constructors(kind: type) -> Iterator[list[inspect.Parameter]]:
    for base in kind.__mro__:
        if "__init__" in vars(base) and base is not object:
            yield list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]


def arguments(kind: type[Trainer], bound: dict[str, Any]) -> TrainingArguments | None:
    """Find the training arguments among what the constructor was given, under whatever name.

    Args:
        kind: the trainer's class.
        bound: argument name to value.

    Returns:
        The arguments; None where there are none and transformers would make them.

    Raises:
        ArgumentsError: they are not of the class that the trainer needs, or are not there.
    """
    needed = Seq2SeqTrainingArguments if issubclass(kind, Seq2SeqTrainer) else TrainingArguments
    given = bound.get("args")
    if given is None or (constructor_of_its_own(kind) and not isinstance(given, TrainingArguments)):
        given = next((value for value in bound.values() if isinstance(value, TrainingArguments)), None)
    if isinstance(given, needed):
        return given
    name = f"Ray{needed.__name__}"
    if given is not None:
        fix = f"args={name}(**...)" if isinstance(given, dict) else f"args={name}(output_dir=...)"
        refuse("args", given, f"{kind.__name__} needs {needed.__name__}, this is {type(given).__name__}", fix)
    if needed is not TrainingArguments or constructor_of_its_own(kind):
        refuse("args", None, f"{kind.__name__} needs {needed.__name__}", f"args={name}(output_dir=...)")
    return None


def constructor_of_its_own(kind: type[Trainer]) -> bool:
    """Tell whether the class has a constructor that may make what transformers' is otherwise given."""
    transparent = {Trainer, Seq2SeqTrainer}
    own = (base for base in kind.__mro__[: kind.__mro__.index(Trainer)] if "__init__" in vars(base))
    return any(base not in transparent and not base.__module__.startswith("raytrainer.") for base in own)

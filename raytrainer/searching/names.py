"""What the names of a search space mean: fields of the training arguments, or parameters of ``model_init``."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from transformers import Seq2SeqTrainingArguments, TrainingArguments

from raytrainer.config.checking import mistakes
from raytrainer.config.hosted import training_fields, training_section
from raytrainer.config.sweep_values import node_of
from raytrainer.config.tree import Place
from raytrainer.errors import Problem, unknown_name
from raytrainer.sweep.numbers import plain

_NOT_SWEPT = {
    "output_dir": ("each trial has a folder of its own", "hp_name=function that names trials"),
    "run_name": ("each trial has its own", "hp_name=function that names trials"),
    "resume_from_checkpoint": ("a trial begins anew", "resume=True to go on with a whole search"),
    "load_best_model_at_end": ("the search keeps the checkpoint of the evaluation that counts", "scope='best'"),
    "local_rank": ("the workers get their ranks from Ray", "nothing"),
    "use_cpu": ("scaling_config decides it", "ScalingConfig(use_gpu=...)"),
}
# A misspelt field, if model_init says nothing of it.
_ALIKE = 0.8


@dataclass(frozen=True)
class Names:
    """The names that a search space may have. It travels to the trials.

    Args:
        fields: of the training arguments.
        whole: those of them that are whole numbers.
    """

    fields: frozenset[str]
    whole: frozenset[str]

    @classmethod
    def of(cls, given: TrainingArguments) -> Names:
        """Return the names for training arguments of a class."""
        fields = [field for field in dataclasses.fields(given) if field.init]
        known = training_fields(isinstance(given, Seq2SeqTrainingArguments))
        whole = {field.name for field in fields if field.name not in known and field.type in (int, "int", "int | None")}
        for name, field in known.items():
            members = get_args(field.annotation) or (field.annotation,)
            if int in members and float not in members:
                whole.add(name)
        return cls(frozenset(field.name for field in fields), frozenset(whole))

    def fitted(self, sampled: Mapping[str, Any]) -> dict[str, Any]:
        """Return values as Python's own, cut to whole numbers where the field is one, as transformers does."""
        return {
            name: int(value) if name in self.whole and isinstance(value, float) and value == value else value
            for name, value in plain(sampled).items()
        }

    def unknown(
        self, names: Iterable[Any], model_init: Callable[..., Any] | None, said: str = "hp_space"
    ) -> Iterator[Problem]:
        """Tell of names that nobody takes.

        Args:
            names: of the search space.
            model_init: takes what is no field, where it takes an argument; None where a constructor has one inside.
            said: where the names were said.
        """
        takes = model_init is None or len(inspect.signature(model_init).parameters) == 1
        read = set(_texts(getattr(model_init, "__code__", None)))
        for name in names:
            where = f"{said}[{name!r}]"
            if not isinstance(name, str) or name.startswith("__"):
                yield Problem(where, name, "it is no name", "a text that does not begin with __")
            elif name in _NOT_SWEPT:
                yield Problem(where, name, *_NOT_SWEPT[name])
            elif name not in self.fields and not takes:
                reason = "the training arguments have no such field, and model_init takes no argument"
                yield Problem(where, name, reason, f"{self._near(name)}; or def model_init(trial): ... trial[{name!r}]")
            elif name not in self.fields | read and difflib.get_close_matches(name, self.fields, 1, _ALIKE):
                reason = "the training arguments have no such field, and model_init does not mention it"
                yield Problem(where, name, reason, unknown_name(name, sorted(self.fields)))

    def _near(self, name: str) -> str:
        close = difflib.get_close_matches(name, self.fields, n=1)
        return f"write {close[0]!r}" if close else "a field of the training arguments"


def wrong_values(values: Mapping[str, Any], given: TrainingArguments) -> dict[str, Problem]:
    """Hold a trial's values against the types and ranges of the training arguments.

    Args:
        values: of fields, fitted.
        given: the training arguments that they go into.

    Returns:
        What is wrong, by name.
    """
    section = training_section(isinstance(given, Seq2SeqTrainingArguments))
    found: dict[str, Problem] = {}
    if section is not None:
        hosted = {name: value for name, value in values.items() if name in section.model_fields}
        hosted = {name: getattr(value, "value", value) for name, value in hosted.items()}  # of an enumeration
        wrong, _ = mistakes(section, hosted, node_of(hosted, Place("")))
        for path, problem in wrong.items():
            name = str(path[0])
            found.setdefault(name, Problem(f"hp_space[{name!r}]", hosted[name], problem.reason, problem.fix))
    for name, value in values.items():
        before = getattr(given, name)
        if name in found or (section is not None and name in section.model_fields):
            continue
        if isinstance(before, bool | int | float) and isinstance(value, bool) is not isinstance(before, bool):
            found[name] = Problem(f"hp_space[{name!r}]", value, f"it is no {type(before).__name__}", f"as {before!r}")
        elif isinstance(before, int | float) and isinstance(value, str):
            found[name] = Problem(f"hp_space[{name!r}]", value, "it is text", f"a number, as {before!r}")
    return found


def _texts(constant: Any) -> Iterator[str]:
    """Yield the text constants of a function's code, and of those inside it: names that it may look up."""
    if isinstance(constant, str):
        yield constant
    elif isinstance(constant, types.CodeType | tuple | frozenset):
        for inner in constant.co_consts if isinstance(constant, types.CodeType) else constant:
            yield from _texts(inner)

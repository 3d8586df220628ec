"""The error tree: every error that raytrainer raises on purpose, and how it crosses processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raytrainer.secrets import shown


class Seen:
    """A value as it is shown in a problem, where Python's spelling of it would be of no help.

    Args:
        text: what is shown.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


NOTHING = Seen("nothing")
"""What is seen where something is missing."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the setting, the value seen, the reason, and what to write instead."""

    setting: str
    value: object
    reason: str
    fix: str

    def __str__(self) -> str:
        seen = shown(self.value, self.setting.partition(" ")[0])
        return f"{self.setting} = {seen!r}: {self.reason}\n  Instead: {self.fix}"


class RayTrainerError(Exception):
    """The root of the tree."""


class UserError(RayTrainerError, ValueError):
    """A mistake in what the user passed, found before any training step; exit status 2.

    Args:
        problems: everything that was found wrong, at least one.
    """

    def __init__(self, *problems: Problem) -> None:
        assert problems, "a UserError names at least one problem"
        self.problems: tuple[Problem, ...] = problems
        super().__init__("\n".join(str(problem) for problem in problems))

    def __reduce__(self) -> tuple[type[UserError], tuple[Problem, ...]]:
        return type(self), self.problems


class ConfigError(UserError):
    """A config file, what it builds on, or a setting on the command line is wrong."""


class ArgumentsError(UserError):
    """A constructor or training argument is unknown, out of range, or contradicts another."""


class ResourcesError(UserError):
    """The cluster can never give what the scaling configuration asks for."""


class PrecisionError(UserError):
    """The precision asked for is not one that a worker's device can compute in."""


class ContractError(UserError):
    """The model does not keep the contract that transformers' Trainer relies on."""


class ShippingError(UserError):
    """Something handed to the constructor cannot travel to the workers, or what it became there not back."""


class TrainingFailed(RayTrainerError, RuntimeError):
    """The run broke, and not by an exception in the user's code: a worker died, or Ray gave up. Its text says what."""


class ScriptFailed(RayTrainerError, RuntimeError):
    """A script that runs on the workers raised an exception, or left with an exit status that is not 0.

    Args:
        rank: world rank of the worker.
        text: the traceback, or what the script said when it left.
        status: the exit status; None for an exception, after which a run with ``max_failures`` starts again.
    """

    def __init__(self, rank: int, text: str, status: int | None = None) -> None:
        self.rank, self.text, self.status = rank, text, status
        super().__init__(rank, text, status)

    def __str__(self) -> str:
        last = (self.text.strip().splitlines() or [f"exit status {self.status}"])[-1]
        return f"rank {self.rank}: {last}"


class Interrupted(KeyboardInterrupt, SystemExit):
    """The user pressed Ctrl-C, and the workers are stopped.

    A KeyboardInterrupt for a program that catches it; one that does not ends with exit status 130.

    Args:
        step: the step at which everything was saved; None where nothing was.
    """

    def __init__(self, step: int | None = None) -> None:
        self.step = step
        self.code = 130
        super().__init__()


class WorkerTraceback(RayTrainerError):
    """The traceback of an exception as it was on a worker; the cause of what the driver raises.

    Args:
        rank: world rank of the worker.
        text: the formatted traceback.
    """

    def __init__(self, rank: int, text: str) -> None:
        self.rank, self.text = rank, text
        super().__init__(rank, text)

    def __str__(self) -> str:
        return f"on the worker of rank {self.rank}:\n\n{self.text}"


def unknown_name(name: str, known: Sequence[str]) -> str:
    """Say what the nearest known name is, for the fix of a misspelt one."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"write {close[0]!r}" if close else f"choose one of {', '.join(sorted(known))}"

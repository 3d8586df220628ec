"""What can be known to be wrong on the driver, before any worker starts."""

from raytrainer.checks.binding import arguments, bind, constructor_of_its_own
from raytrainer.checks.calls import evaluate_call, search_call, train_call
from raytrainer.checks.constructor import constructor
from raytrainer.checks.own import own

__all__ = [
    "arguments",
    "bind",
    "constructor",
    "constructor_of_its_own",
    "evaluate_call",
    "own",
    "search_call",
    "train_call",
]

"""Expressions in a search space: arithmetic over other keys, whose dots are part of their names."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from functools import cache
from typing import Any

from simpleeval import DEFAULT_OPERATORS, InvalidExpression, SimpleEval

FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "int": int, "round": round, "abs": abs}
_MOST_POWER = 1000
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.USub, ast.UAdd)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.And, ast.Or, ast.Not)
_NODES = (ast.Constant, ast.Name, ast.Attribute, ast.Load, ast.UnaryOp, ast.BinOp, ast.Compare, ast.BoolOp, ast.IfExp)


class ExpressionError(ValueError):
    """An expression is none, or has no value."""


@cache
def parsed(text: str) -> ast.expr:
    """Parse an expression.

    Raises:
        ExpressionError: it is something else.
    """
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it cannot be read"
        raise ExpressionError(f"it is no expression: {reason}") from None
    _refuse_others(body)
    return body


def names_in(text: str) -> list[str]:
    """Return the keys that an expression names, each once.

    Raises:
        ExpressionError: it is no expression.
    """
    found: dict[str, None] = {}

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Name | ast.Attribute):
            found[_dotted(node)] = None
        else:
            for below in node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node):
                visit(below)

    visit(parsed(text))
    return list(found)


def evaluate(text: str, value_of: Callable[[str], Any]) -> Any:
    """Compute an expression.

    Args:
        text: the expression.
        value_of: gives the value of a key.

    Raises:
        ExpressionError: it is no expression, or has no value.
    """
    body = parsed(text)
    try:
        value = _Arithmetic(value_of).eval(text, previously_parsed=body)
    except ZeroDivisionError:
        raise ExpressionError("it divides by 0") from None
    except (TypeError, ValueError, OverflowError, InvalidExpression):
        seen = ", ".join(f"{name} is {value_of(name)!r}" for name in names_in(text))
        raise ExpressionError(f"it has no value where {seen}" if seen else "it has no value") from None
    if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
        raise ExpressionError(f"it comes to {value}, which is no number to train with")
    return value


class _Arithmetic(SimpleEval):  # type: ignore[misc]  # simpleeval has no types
    """simpleeval with keys for names: ``a.b`` is one name, no attribute of a."""

    def __init__(self, value_of: Callable[[str], Any]) -> None:
        operators = {**DEFAULT_OPERATORS, ast.FloorDiv: _floor, ast.Pow: _power}
        super().__init__(operators=operators, functions=FUNCTIONS, names={})
        self.nodes[ast.Name] = self.nodes[ast.Attribute] = lambda node: value_of(_dotted(node))


def _floor(one: Any, other: Any) -> Any:
    """Divide without a rest: a whole number, whatever the two are."""
    result = operator.floordiv(one, other)
    return int(result) if isinstance(result, float) and math.isfinite(result) else result


def _power(one: Any, other: Any) -> Any:
    if abs(one) > _MOST_POWER**2 or abs(other) > _MOST_POWER:
        raise OverflowError
    return one**other


def _refuse_others(body: ast.expr) -> None:
    for node in ast.walk(body):
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords:
                raise ExpressionError(f"{ast.unparse(node)} is none of its functions, {', '.join(FUNCTIONS)}")
        elif isinstance(node, ast.Attribute) and not isinstance(node.value, ast.Attribute | ast.Name):
            raise ExpressionError(f"{ast.unparse(node)} is no key")
        elif not isinstance(node, _NODES + _OPERATORS + _COMPARISONS):
            what = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
            raise ExpressionError(f"{what} has no place in arithmetic")


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    assert isinstance(node, ast.Name)
    return node.id

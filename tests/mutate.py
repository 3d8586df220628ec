"""``make mutate``: changes the pure decisions, one place at a time, and sees that a test fails for each.

The modules that a decision takes are imported once; each mutant is a fork of that process, which has the changed
module in the place of the right one when its tests are imported.

    python -m tests.mutate               every decision
    python -m tests.mutate keeping       those of one module
"""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib
import importlib.abc
import importlib.machinery
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
# Seconds after which a mutant's tests, which do not end, count as failed.
_PATIENCE_S = 300
# What the tests need, and what is not changed: a fork has it already.
_HEAVY = ("torch", "transformers", "ray.train", "ray.tune", "datasets", "optuna", "hypothesis", "mlflow", "numpy")
_UNIT = "tests/unit/test_"

DECISIONS: dict[str, tuple[str, ...]] = {
    "precision": ("precision",),
    "keeping": ("keeping", "checkpoints"),
    "manifests": ("checkpoints",),
    "mutation": ("mutation",),
    "rescheduling": ("mutation",),
    "sweep.standings": ("standings",),
    "config.sweep_parameter": ("space", "sweep_config"),
    "config.sweep_space": ("space", "sweep_config"),
    "sweep.space": ("space", "searchers"),
}
"""Module to the tests that have to tell it from every mutant."""

EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("keeping", "sign = -1 if self.greater_is_better else 1", "1 to 2"): "only its sign counts",
    **{
        ("manifests", "_CHUNK = 4 * 2**20", what): "how much is read at a time"
        for what in ("4 to 5", "2 to 3", "20 to 21")
    },
    ("mutation", "for old, new in zip(saved, fresh, strict=True)", "True to False"): "keeps_moments was asked before",
    ("manifests", "return json.dumps(values, indent=1)", "1 to 2"): "how it looks",
}
"""Module, line and mutant to why nobody can tell it from the right one."""

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitOr: ast.BitAnd},
    **{ast.BitAnd: ast.BitOr, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult},
}
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "ceil": "floor", "floor": "ceil", "sorted": "list"}


@dataclass(frozen=True)
class Mutant:
    """A module with one place changed.

    Args:
        module: its name, without the package.
        line: number of the line.
        text: the line as it is.
        change: what was done to it.
        tree: the changed module.
    """

    module: str
    line: int
    text: str
    change: str
    tree: ast.Module

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.change}: {self.text}"


def changes(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Yield what may stand in the place of a node: in words, and changed."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARE:
            other = _COMPARE[type(op)]
            yield f"{type(op).__name__} to {other.__name__}", _with(node, ops=[other()])
        case ast.BoolOp(op=op):
            other_op: ast.boolop = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield f"{type(op).__name__} to {type(other_op).__name__}", _with(node, op=other_op)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "no not", operand
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield "no minus", operand
        case ast.BinOp(op=sign) if type(sign) in _ARITHMETIC:
            yield (
                f"{type(sign).__name__} to {_ARITHMETIC[type(sign)].__name__}",
                _with(node, op=_ARITHMETIC[type(sign)]()),
            )
        case ast.IfExp(test=test):
            yield "the other one", _with(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.If(test=test) if not (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"):
            yield "if not", _with(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.comprehension(ifs=[first, *_]):
            yield "no if", _with(node, ifs=[])
            yield "if not", _with(node, ifs=[ast.UnaryOp(ast.Not(), first)])
        case ast.Constant(value=bool() as value):
            yield f"{value} to {not value}", ast.Constant(not value)
        case ast.Constant(value=int() | float() as number):
            yield f"{number} to {number + 1}", ast.Constant(number + 1)
        case ast.Call(func=ast.Name(id=name)) if name in _CALLS:
            yield f"{name} to {_CALLS[name]}", _called(node, ast.Name(_CALLS[name], ast.Load()))
        case ast.Call(func=ast.Attribute(value=module, attr=name)) if name in _CALLS:
            yield f"{name} to {_CALLS[name]}", _called(node, ast.Attribute(module, _CALLS[name], ast.Load()))
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "returns None", ast.Return(ast.Constant(None))
        case ast.Break() | ast.Continue():
            yield "goes on", ast.Pass()


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _called(call: ast.Call, function: ast.expr) -> ast.Call:
    drops_key = isinstance(function, ast.Name) and function.id == "list"
    return ast.Call(function, call.args, [] if drops_key else call.keywords)


# What is said to people, what is imported, what is held for true anyway.
_NOT_DECIDING = ast.JoinedStr | ast.Raise | ast.Assert | ast.Import | ast.ImportFrom


def places(tree: ast.AST, path: tuple[tuple[str, int | None], ...] = ()) -> Iterator[tuple[Any, ast.AST]]:
    """Yield every node that decides something, and the way to it; not what is said to people, nor types."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list") or isinstance(value, ast.JoinedStr):
            continue
        for number, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(node, ast.AST) and not isinstance(node, _NOT_DECIDING):
                here = (*path, (name, number))
                yield here, node
                yield from places(node, here)


def mutants(module: str) -> Iterator[Mutant]:
    """Yield a module's mutants."""
    source = source_of(module).read_text()
    lines, tree = source.splitlines(), ast.parse(source)
    for path, node in places(tree):
        for change, replacement in changes(node):
            mutated = copy.deepcopy(tree)
            _put(mutated, path, ast.copy_location(replacement, node))
            line = getattr(node, "lineno", getattr(getattr(node, "target", None), "lineno", 0))
            yield Mutant(module, line, lines[line - 1].strip(), change, ast.fix_missing_locations(mutated))


def _put(tree: Any, path: Sequence[tuple[str, int | None]], node: ast.AST) -> None:
    *above, (name, number) = path
    for step, at in above:
        tree = getattr(tree, step) if at is None else getattr(tree, step)[at]
    if number is None:
        setattr(tree, name, node)
    else:
        getattr(tree, name)[number] = node


def source_of(module: str) -> Path:
    return ROOT / "raytrainer" / f"{module.replace('.', '/')}.py"


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a mutant in the place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self._name, self._tree = f"raytrainer.{mutant.module}", mutant.tree
        self._file = str(source_of(mutant.module))

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self, origin=self._file) if fullname == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = self._file
        exec(compile(self._tree, self._file, "exec"), vars(module))


def passes(tests: Sequence[str], mutant: Mutant | None) -> bool:
    """Run tests in a fork of this process, and tell whether all of them pass."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException), open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
            signal.alarm(_PATIENCE_S)
            if mutant is not None:
                sys.meta_path.insert(0, Changed(mutant))
            quiet = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--hypothesis-seed=0"]
            status = pytest.main([*quiet, *(f"{_UNIT}{name}.py" for name in tests)])
        os._exit(int(status != 0))
    _, ended = os.waitpid(child, 0)
    return ended == 0


def main(asked: Sequence[str]) -> int:
    """Try the mutants of some modules, and print those that no test can tell from the right ones."""
    os.chdir(ROOT)
    for name in _HEAVY:
        importlib.import_module(name)
    lived = tried = 0
    with tempfile.TemporaryDirectory() as folder:
        # Examples that fail for a mutant are no examples to begin with next time.
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder
        for module in asked or DECISIONS:
            tests, began, survivors, count = DECISIONS[module], time.monotonic(), 0, 0
            if not passes(tests, None):
                print(f"{module}: its tests fail without any change", file=sys.stderr)
                return 1
            for mutant in mutants(module):
                count += 1
                if passes(tests, mutant) and (module, mutant.text, mutant.change) not in EQUIVALENT:
                    survivors += 1
                    print(f"lives: {mutant}", flush=True)
            tried, lived = tried + count, lived + survivors
            print(f"{module}: {count} mutants, {survivors} live, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{tried} mutants, {lived} live")
    return int(lived > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

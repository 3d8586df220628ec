"""English prose about programs: the docstrings of Python's standard library, as the Python that runs this has them."""

from __future__ import annotations

import ast
import inspect
import sysconfig
from pathlib import Path

# The Python that reads this has them: nothing is downloaded. Licence: that of Python, PSF-2.0.
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "pydoc_data"}
_KINDS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def split_docstrings() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Read them; every tenth file's are for evaluation.

    Returns:
        Two lists of rows: ``text``, and ``file``, where it is from.
    """
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for path in library.rglob("*.py") if not _LEFT_OUT & set(path.relative_to(library).parts))
    rows = [[{"text": text, "file": str(path.relative_to(library))} for text in _docstrings_in(path)] for path in files]
    train = [row for number, own in enumerate(rows) for row in own if number % 10]
    return train, [row for own in rows[::10] for row in own]


def _docstrings_in(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, _KINDS)]
    return [inspect.cleandoc(text) for text in found if text and len(text) > 40]

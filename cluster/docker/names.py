"""Prints what raytrainer depends on, a line each: ``python names.py EXTRA...``, beside pyproject.toml."""

from __future__ import annotations

import sys
from pathlib import Path

import tomllib

project = tomllib.loads((Path(sys.argv[0]).parent / "pyproject.toml").read_text())["project"]
names = [
    *project["dependencies"],
    *(name for extra in sys.argv[1:] for name in project["optional-dependencies"][extra]),
]
print("\n".join(name for name in names if not name.startswith("raytrainer")))

"""The lowest versions that pyproject.toml allows, as pip's constraints: ``python -m tests.floors [NAME==VERSION...]``.

What is given on the command line counts more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import tomllib  # type: ignore[import-not-found]  # since 3.11, which is what runs this; the package is checked for 3.10
from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def floors(given: Sequence[str] = ()) -> Iterator[str]:
    """Yield a line for each dependency, of the package and of its extras, that has a lowest version."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    named = {Requirement(each).name for each in given}
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        lowest = [each.version for each in requirement.specifier if each.operator == ">="]
        if lowest and requirement.name not in named:
            yield f"{requirement.name}=={lowest[0]}"
    yield from given


if __name__ == "__main__":
    print("\n".join(floors(sys.argv[1:])))

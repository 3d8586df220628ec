"""Variables of this program's environment that a run, a script or a job is to get."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from raytrainer.errors import Problem


def unset(setting: str, names: Iterable[str], instead: str) -> Iterator[Problem]:
    """Find names of variables that are not set here.

    Args:
        setting: where they were asked for.
        names: the variables'.
        instead: what else may be written, with ``{name}`` for the variable's.
    """
    for name in names:
        if name not in os.environ:
            yield Problem(
                setting, name, "there is no such variable", f"export {name}=..., or {instead.format(name=name)}"
            )

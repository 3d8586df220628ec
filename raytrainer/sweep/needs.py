"""Driver: the packages that a search algorithm or scheduler takes beside raytrainer's own."""

from __future__ import annotations

import importlib.util

from raytrainer.errors import ConfigError, Problem

_PACKAGES = {
    "optuna": ("optuna", ["optuna"]),
    "cmaes": ("optuna", ["cmaes"]),
    "hyperopt": ("hyperopt", ["hyperopt"]),
    "bohb": ("bohb", ["ConfigSpace", "hpbandster"]),
    "ax": ("ax", ["ax"]),
    "pb2": ("pb2", ["sklearn"]),
}
"""Name to the extra of raytrainer's that brings its packages, and these."""


def require(setting: str, name: str) -> None:
    """Refuse an algorithm whose packages are not installed here.

    Args:
        setting: where it was asked for.
        name: of the algorithm.

    Raises:
        ConfigError: with the command that installs them.
    """
    extra, packages = _PACKAGES.get(name, ("", []))
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        reason = f"it takes the package {' and '.join(missing)}, which is not installed"
        raise ConfigError(
            Problem(setting, name, reason, f"pip install 'raytrainer[{extra}]' where the sweep is started")
        )

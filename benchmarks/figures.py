"""What a benchmark does with its figures: median and spread, goals and verdicts, machine and versions, JSON."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGES = ("ray", "torch", "transformers", "accelerate", "datasets", "mlflow", "optuna", "raytrainer")


@dataclass(frozen=True)
class Goal:
    """What a figure shall be.

    Args:
        what: the figure, in words.
        measured: it.
        limit: what it may be at most, or shall be at least.
        at_least: whether more is better.
    """

    what: str
    measured: float
    limit: float
    at_least: bool = False

    @property
    def reached(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def bound(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g}"

    def __str__(self) -> str:
        return f"{'reached' if self.reached else 'MISSED '}  {self.measured:8.3f}  ({self.bound})  {self.what}"


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with what all benchmarks have: ``--json``."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, help="where to write all figures, with machine and versions")
    return made


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return median, least and most."""
    each = list(values)
    return {name: round(of(each), 4) for name, of in (("median", statistics.median), ("from", min), ("to", max))}


def ratios(ours: Iterable[float], theirs: Iterable[float]) -> dict[str, float]:
    """Return the spread of the ratios round by round: what slows a whole round is in both of its figures."""
    return spread(own / peer for own, peer in zip(ours, theirs, strict=True))


def machine() -> dict[str, Any]:
    """Say on what the figures were taken; the load tells whether others were at work."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": _gpus(),
        "system": platform.platform(),
        "load": [round(load, 1) for load in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Return the version of each package that the figures depend on, as far as it is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def conclude(name: str, results: dict[str, Any], goals: list[Goal], begun: dict[str, Any], file: Path | None) -> None:
    """Print goals, verdicts and everything as JSON, write the file, and end the program.

    Args:
        name: the benchmark's.
        results: its figures.
        goals: what they shall be.
        begun: :func:`machine` as it was at the begin, before the benchmark itself made load.
        file: where to write, None for nowhere.

    Raises:
        SystemExit: with status 1 where a goal is missed.
    """
    for goal in goals:
        print(goal, flush=True)
    verdicts = [{**vars(goal), "reached": goal.reached} for goal in goals]
    told = {"benchmark": name, "goals": verdicts, "results": results, "machine": begun, "versions": versions()}
    print(json.dumps(told))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(told, indent=1) + "\n")
    sys.exit(not all(goal.reached for goal in goals))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    try:
        asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []

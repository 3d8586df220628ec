"""Driver: what a search came to, as transformers tells it, and where the rest is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers.trainer_utils import BestRun

from raytrainer.checkpoints import Store
from raytrainer.errors import TrainingFailed
from raytrainer.searching.goals import Goals
from raytrainer.sweep.record_files import trial_checkpoints, trial_folder
from raytrainer.sweep.report import write_page
from raytrainer.sweep.results import Ranked, Results
from raytrainer.sweep.tables import print_results, rows, write_results
from raytrainer.sweep.wording import cause


@dataclass(frozen=True)
class Summary:
    """``BestRun.run_summary``: the whole search.

    Args:
        folder: the search's: ``results.csv``, ``results.json``, ``trials/``, ``report.html`` where plotly is installed.
        trial_folder: the run's own in it.
        checkpoint: the run's checkpoint, which ``from_pretrained`` reads; None where it has none.
        results: all trials, ranked.
    """

    folder: str
    trial_folder: str
    checkpoint: str | None
    results: Results

    def dataframe(self) -> Any:
        """Return the table of all trials, the best first, as pandas has it."""
        import pandas  # type: ignore[import-untyped]  # it carries no types

        return pandas.DataFrame(rows(self.results))


def best_runs(folder: Store, goals: Goals, errors: Mapping[int, str]) -> BestRun | list[BestRun]:
    """Write the results, print them, and return the best.

    Args:
        folder: the search's.
        goals: what it went by.
        errors: of the trials that failed, by number.

    Raises:
        TrainingFailed: no trial came to a result.
    """
    results = write_results(folder)
    write_page(folder, results)
    if results.best is None:
        why = cause(next(iter(errors.values()), "no trial was evaluated"))
        raise TrainingFailed(f"no trial came to a result: {why} ({folder.shown})")
    print_results(results)
    print(f"search: {folder.shown}")
    if errors:
        print(f"warning: {len(errors)} of {len(results.ranked)} trials failed", file=sys.stderr)
    if goals.several:
        return [_run(r, list(r.score.values), results, folder) for r in results.ranked if r.front]
    return _run(results.best, results.best.score.values[0], results, folder)


def _run(ranked: Ranked, objective: float | list[float], results: Results, folder: Store) -> BestRun:
    trial = trial_folder(folder, ranked.number)
    checkpoint = None
    if ranked.checkpoint is not None:
        checkpoint = trial_checkpoints(folder, ranked.number).address(ranked.checkpoint)
    summary = Summary(folder.shown, trial.shown, checkpoint, results)
    return BestRun(f"{ranked.number:05d}", objective, dict(ranked.values), summary)

"""For ``make coverage``: every Python process below measures itself, Ray's workers among them.

A worker of Ray's is killed when it has nothing more to do, and would take with it what was measured until then.
"""

from __future__ import annotations

import os
import threading

_EVERY_S = 3.0


def _save(measured: object) -> None:
    while True:
        threading.Event().wait(_EVERY_S)
        measured.save()  # type: ignore[attr-defined]  # a Coverage, which is imported where it is wanted only


if "COVERAGE_PROCESS_START" in os.environ:
    import coverage

    coverage.process_startup()
    measured = getattr(coverage.process_startup, "coverage", None)
    if measured is not None:
        threading.Thread(target=_save, args=[measured], name="coverage", daemon=True).start()

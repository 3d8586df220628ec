"""Where a run can be looked at."""

from __future__ import annotations

import re
import shlex

from raytrainer.secrets import masked
from raytrainer.tracking_run import TrackedRun
from raytrainer.tracking_sink import Tracker


def ui_command(tracker: Tracker) -> str:
    """Say how to look at the run.

    Args:
        tracker: of the run, open or closed.

    Returns:
        The run's page on a server, or the command that serves a database; without credentials.
    """
    return run_page(tracker.run)


def run_page(run: TrackedRun) -> str:
    """Say how to look at a run that is open or will be made; as :func:`ui_command`."""
    uri = run.target.tracking_uri
    if run.run_id is None:
        return f"nothing yet; raytrainer sync {shlex.quote(masked(run.journal.place))}"
    if uri.startswith(("http://", "https://")):
        host = re.sub(r"://[^/]*@", "://", uri).rstrip("/")
        return f"{host}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
    if uri.startswith("databricks"):
        return f"run {run.run_id} of {masked(uri)}"
    return f"mlflow ui --backend-store-uri {shlex.quote(masked(uri))}"

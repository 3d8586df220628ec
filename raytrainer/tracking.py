"""The record of a run in MLflow, made on the driver: parameters, metrics by step, end state."""

from __future__ import annotations

import json
import re
import shlex
import traceback
from numbers import Real
from typing import Any

from raytrainer.events import Began, Event, Logged
from raytrainer.tracking_open import check_store, open_run
from raytrainer.tracking_run import Point, TrackedRun
from raytrainer.tracking_target import Target, masked, tracking_target
from raytrainer.tracking_writer import Writer

__all__ = ["Target", "Tracker", "check_store", "open_tracker", "tracking_target", "ui_command"]


class Tracker:
    """A sink that records a run in MLflow; what the server misses stops nothing, see :class:`Writer`.

    Args:
        run: the open run; its ``run_id`` and ``experiment_id`` are this object's too.
        target: what it was opened for.
        retry: seconds between two tries while the server is away.
    """

    def __init__(self, run: TrackedRun, target: Target, retry: float = 5.0) -> None:
        self.run_id, self.experiment_id, self.tracking_uri = run.run_id, run.experiment_id, target.tracking_uri
        self._target = target
        self._max_param_length = run.max_param_length
        self._param_names = set(run.param_names)
        self._writer = Writer(run, retry)
        self._closed = False

    @property
    def trouble(self) -> str:
        """Why the last write failed, empty if it did not."""
        return self._writer.trouble

    def handle(self, event: Event) -> None:
        """Take parameters and metrics to be written; returns at once and never raises for the server's sake.

        Args:
            event: what rank 0 told.
        """
        match event:
            case Began():
                self._put_params({**event.model_config, **event.arguments})
            case Logged():
                metrics = event.metrics if event.epoch is None else {"epoch": event.epoch, **event.metrics}
                at = int(event.time * 1000)
                numbers = {name: float(value) for name, value in metrics.items() if isinstance(value, Real)}
                self._writer.put([Point(_metric_name(name), value, at, event.step) for name, value in numbers.items()])

    def close(self, error: BaseException | None) -> None:
        """Write what waits and the end state: FINISHED, KILLED after Ctrl-C, FAILED with the error as a tag.

        A run that the user's own program opened is left running.

        Args:
            error: what ended the run, None when it is done.
        """
        if not self._closed:
            self._closed = True
            self._writer.close(_end_state(error) if self._target.ends else None)

    def _put_params(self, settings: dict[str, Any]) -> None:
        # A parameter of a run cannot be changed: one that an earlier part of the run wrote stays as it is.
        flat = _flatten(settings) if self._target.flatten_params else settings
        params = {str(name): str(value) for name, value in list(flat.items())[: self._target.max_params]}
        new = {name: value for name, value in params.items() if name not in self._param_names}
        self._param_names |= new.keys()
        limit = self._max_param_length
        cut = any(len(value) > limit for value in new.values())
        self._writer.put(
            params=[
                (name, value if len(value) <= limit else f"{value[: limit - 3]}...") for name, value in new.items()
            ],
            texts=[("params.json", json.dumps(settings, indent=2, default=str))] if cut else [],
        )


def open_tracker(target: Target) -> Tracker:
    """Open the run; to be called before any worker is started.

    Args:
        target: where to.

    Returns:
        The sink, which must be closed.

    Raises:
        UserError: if the store cannot be reached or used, or the run or experiment is not there.
    """
    return Tracker(open_run(target), target)


def ui_command(tracker: Tracker) -> str:
    """Say how to look at the run.

    Args:
        tracker: of the run, open or closed.

    Returns:
        The run's page on a server, or the command that serves a database; without credentials.
    """
    uri = tracker.tracking_uri
    if uri.startswith(("http://", "https://")):
        host = re.sub(r"://[^/]*@", "://", uri).rstrip("/")
        return f"{host}/#/experiments/{tracker.experiment_id}/runs/{tracker.run_id}"
    if uri.startswith("databricks"):
        return f"run {tracker.run_id} of {masked(uri)}"
    return f"mlflow ui --backend-store-uri {shlex.quote(masked(uri))}"


def _end_state(error: BaseException | None) -> tuple[str, str | None]:
    if error is None:
        return "FINISHED", None
    if isinstance(error, KeyboardInterrupt):
        return "KILLED", None
    return "FAILED", "".join(traceback.format_exception_only(error)).strip()


def _metric_name(name: str) -> str:
    # The same signs replaced as by transformers' MLflowCallback, so that both name a metric alike.
    return re.sub(r"[^0-9A-Za-z_\-. :/]", "_", name)


def _flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat

"""Driver: the sink that records a run in MLflow: parameters, metrics by step, end state."""

from __future__ import annotations

import json
import re
import time
import traceback
from numbers import Real
from typing import Any

from raytrainer.events import Began, Ended, Event, Logged, Measured, Phase, Saved
from raytrainer.secrets import masked
from raytrainer.tracking_entry import Data, Entry, Point, State
from raytrainer.tracking_run import TrackedRun
from raytrainer.tracking_seen import LINEAGE_TAG, Seen
from raytrainer.tracking_writer import Writer

_MEASURED = tuple(f"raytrainer/{name}" for name in ("samples_per_second", "tokens_per_second", "memory_peak_bytes"))


class Tracker:
    """A sink that records a run in MLflow; what the server misses stops nothing, see :class:`Writer`.

    Args:
        run: the run, open or to be made.
        writer: writes to it.
        seen: which steps the run has; None for a new one.
        shared: whether other runs have the same writer, so that ``close`` does not wait for it.
        resumes: whether the training goes on from where another driver was.

    Attributes:
        writer: as given.
        sources: name and place of the data that a config names, by ``training`` and ``evaluation``.
    """

    def __init__(
        self, run: TrackedRun, writer: Writer, seen: Seen | None = None, shared: bool = False, resumes: bool = False
    ) -> None:
        self.run, self.tracking_uri = run, run.target.tracking_uri
        self.writer, self._shared = writer, shared
        self._param_names: set[str] = set()
        self._seen, self._resumes = seen or Seen(), resumes
        self.sources: dict[str, tuple[str, str]] = {}
        self._closed = False

    @property
    def run_id(self) -> str | None:
        """The store's name for the run, None while it has none."""
        return self.run.run_id

    @property
    def experiment_id(self) -> str | None:
        """The store's name for the run's experiment, None while it is not known."""
        return self.run.experiment_id

    @property
    def lineage(self) -> int:
        """Of the weights whose training is logged, see :meth:`branch`."""
        return self._seen.lineage

    @property
    def trouble(self) -> str:
        """Why the last write failed, empty if it did not."""
        return self.writer.trouble or self.run.trouble

    def handle(self, event: Event) -> None:
        """Take parameters and metrics to be written; returns at once and never raises for the server's sake.

        Args:
            event: what rank 0 told.
        """
        match event:
            case Phase():
                self._seen.restart()
            case Began():
                self._seen.begin()
                self._put_params({**event.model_config, **event.arguments})
                tags = {"raytrainer.precision": event.precision, "raytrainer.workers": str(event.world_size)}
                named = [(each, self.sources.get(each.context, (each.name, each.source))) for each in event.data]
                data = [Data(name, each.digest, each.context, source, each.rows) for each, (name, source) in named]
                self.add(Entry(tags=tags, data=data))
                if self._resumes:
                    self._catch_up(event)
            case Ended():
                self._seen.end()
            case Logged():
                metrics = event.metrics if event.epoch is None else {"epoch": event.epoch, **event.metrics}
                numbers = {name: float(value) for name, value in metrics.items() if isinstance(value, Real)}
                measured = {name: getattr(event, name.removeprefix("raytrainer/")) for name in _MEASURED}
                numbers |= {name: float(value) for name, value in measured.items() if value is not None}
                self.log(numbers, event.step, event.time)
            case Saved():
                self.log({"raytrainer/save_stalled_s": event.stalled}, event.step, time.time())
            case Measured():
                # Seconds since the run began: a counter would begin anew when the run goes on after a failure.
                self.log(event.metrics, int(event.time - self.run.journal.head.began / 1000), event.time)

    def _catch_up(self, began: Began) -> None:
        # The workers outlive a driver that is killed by some seconds: they may have saved what it never heard of.
        for logged in began.history:
            metrics = dict(logged)
            step = int(metrics.pop("step", began.step + 1))
            if step <= began.step:
                self.log(metrics, step, time.time())
        self._seen.begin()

    def log(self, metrics: dict[str, float], step: int, when: float) -> None:
        """Take metrics to be written.

        Args:
            metrics: names to values.
            step: optimizer steps done.
            when: seconds since the Unix epoch.
        """
        named = {metric_name(name): value for name, value in metrics.items()}
        new = self._seen.unseen(named, step)
        if new:
            at = int(when * 1000)
            points = [Point(name, value, at, step) for name, value in new.items()]
            self.add(Entry(points=points, training=self._seen.training))

    def branch(self, lineage: int) -> None:
        """Note that a trial's program begins, or begins again, and whose steps it logs.

        Those of a clone are others, though they have the same numbers.

        Args:
            lineage: how often the training has gone on from weights that were not its own.
        """
        self._seen.restart()
        if self._seen.branch(lineage):
            self.add(Entry(tags={LINEAGE_TAG: str(lineage)}))

    def add(self, entry: Entry) -> None:
        """Take anything else to be written; also after :meth:`close`, and then :meth:`drain` writes it."""
        self.writer.put(self.run, entry)

    def close(self, error: BaseException | None) -> None:
        """Write what waits and the end state: FINISHED, KILLED after Ctrl-C, FAILED with the error as a tag.

        A run that the user's own program opened is left running.

        Args:
            error: what ended the run, None when it is done.
        """
        if not self._closed:
            self._closed = True
            if self.run.target.ends:
                self.add(Entry(state=_end_state(error)))
            if not self._shared:
                self.drain()

    def drain(self) -> None:
        """Write what waits; returns when that is done, or cannot be done."""
        self.writer.drain()

    def put_settings(self, settings: dict[str, Any]) -> None:
        """Take a config to be written as parameters, a leaf each: ``training.learning_rate``.

        Args:
            settings: the config in full, JSON types.
        """
        flat = {name: masked(str(value), name) for name, value in _flatten(settings).items() if value is not None}
        self._put_params(flat, whole=None)

    def _put_params(self, settings: dict[str, Any], whole: str | None = "params.json") -> None:
        # A parameter of a run cannot be changed: one that an earlier part of the run wrote stays as it is.
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

        target, limit = self.run.target, MAX_PARAM_VAL_LENGTH
        flat = _flatten(settings) if target.flatten_params else settings
        params = {str(name): str(value) for name, value in list(flat.items())[: target.max_params]}
        new = {name: value for name, value in params.items() if name not in self._param_names}
        self._param_names |= new.keys()
        cut = any(len(value) > limit for value in new.values())
        short = {name: value if len(value) <= limit else f"{value[: limit - 3]}..." for name, value in new.items()}
        texts = {whole: json.dumps(settings, indent=2, default=str)} if cut and whole else {}
        if short or texts:
            self.add(Entry(params=short, texts=texts))


def _end_state(error: BaseException | None) -> State:
    now = int(time.time() * 1000)
    if error is None:
        return State("FINISHED", now)
    if isinstance(error, KeyboardInterrupt):
        return State("KILLED", now)
    return State("FAILED", now, masked("".join(traceback.format_exception_only(error)).strip()))


def metric_name(name: str) -> str:
    """Return a metric's name as MLflow takes it."""
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

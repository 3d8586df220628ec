"""The record of a run in MLflow, made on the driver: parameters, metrics by step, end state."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shlex
import sys
import time
import traceback
from numbers import Real
from typing import Any

from raytrainer.checkpoints import Store
from raytrainer.errors import UserError
from raytrainer.events import Began, Ended, Event, Logged, Measured, Phase, Saved
from raytrainer.secrets import masked
from raytrainer.tracking_context import context_tags
from raytrainer.tracking_entry import Data, Entry, Point, State
from raytrainer.tracking_journal import Journal, new_journal, read_journals, take_over
from raytrainer.tracking_open import check_store, open_run
from raytrainer.tracking_run import RUNNING, TrackedRun
from raytrainer.tracking_seen import LINEAGE_TAG, Seen
from raytrainer.tracking_target import Target, tracking_target
from raytrainer.tracking_writer import Writer

__all__ = ["Target", "Tracker", "check_store", "open_child", "open_tracker", "tracking_target", "ui_command"]

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
        sources: name and place of the data that a config names, by ``training`` and ``evaluation``.
    """

    def __init__(
        self, run: TrackedRun, writer: Writer, seen: Seen | None = None, shared: bool = False, resumes: bool = False
    ) -> None:
        self.run, self.tracking_uri = run, run.target.tracking_uri
        self._writer, self._shared = writer, shared
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
        return self._writer.trouble or self.run.trouble

    def handle(self, event: Event) -> None:
        """Take parameters and metrics to be written; returns at once and never raises for the server's sake.

        Args:
            event: what rank 0 told.
        """
        match event:
            case Phase():
                self._seen.training = 0  # the program of the workers begins, or begins again
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
                # The next training of the same script counts its steps anew.
                self._seen.training += 1
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
        """Note whose steps are logged from here on: those of a clone are others, though they have the same numbers.

        Args:
            lineage: how often the training has gone on from weights that were not its own.
        """
        if self._seen.branch(lineage):
            self.add(Entry(tags={LINEAGE_TAG: str(lineage)}))

    def add(self, entry: Entry) -> None:
        """Take anything else to be written; also after :meth:`close`, and then :meth:`drain` writes it."""
        self._writer.put(self.run, entry)

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
        self._writer.drain()

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


def open_tracker(
    target: Target, folder: Store, again: bool = False, writer: Writer | None = None, wait: bool = True
) -> Tracker:
    """Open the run; to be called before any worker is started.

    Args:
        target: where to.
        folder: of the run, for its own record.
        again: whether to go on with the run that the record in the folder names, if there is one.
        writer: of the store, where other runs are written to it, too.
        wait: whether to wait for the store; else the writer does, whatever the target requires.

    Returns:
        The sink, which must be closed.

    Raises:
        UserError: if the store cannot be reached or used, or the run or experiment is not there, and it is required.
    """
    # Also what is gone on with by its id, after a training for example, or by its key, where it has no id yet.
    known = [each for each in read_journals(folder) if target.run_id in (None, each.head.run_id, each.head.key)]
    seen = Seen()
    if known and (again or target.run_id):
        journal = known[-1]
        if target.run_id == journal.head.key:
            target = dataclasses.replace(target, run_id=None)
        run, entries = go_on(journal, target)
        seen = Seen(entries if again else ())
    else:
        run = TrackedRun(
            target, new_journal(folder, dataclasses.replace(target, tags=context_tags(target, folder.path)))
        )
    if not wait or not _is_open(run):
        # The writer opens it.
        run.reopens = run.run_id is not None
        with contextlib.suppress(OSError):
            run.journal.claim()
    shared, resumes = writer is not None, again and run.journal.known
    tracker = Tracker(run, writer or Writer(target.tracking_uri), seen, shared, resumes)
    if run.journal.known and target.ends:
        tracker.add(_runs_again())
    tracker._writer.serve(run)
    return tracker


def _is_open(run: TrackedRun) -> bool:
    """Open a run now; returns False where it is left for later."""
    try:
        open_run(run)
        return True
    except UserError as error:
        if run.target.required:
            if not run.journal.known:
                run.journal.remove()
            raise
        run.trouble = error.problems[0].reason
        print(f"warning: MLflow is left for later: {run.trouble}", file=sys.stderr)
        return False


def go_on(journal: Journal, target: Target, parent: TrackedRun | None = None) -> tuple[TrackedRun, list[Entry]]:
    """Go on with a run that has a record, in the target's store.

    Args:
        journal: the record.
        target: where to; its run id, if it has one, is the record's.
        parent: the run that it appears under.

    Returns:
        The run, which has what the store lacks waiting, and all entries of the record.
    """
    entries = take_over(journal, target)
    run = TrackedRun(target, journal, parent)
    run.take(entries[journal.head.written :], len(entries))
    return run, entries


def open_child(parent: Tracker, folder: Store, name: str, tags: dict[str, str], goes_on: bool = True) -> Tracker:
    """Open a run under another one, or go on with the one that the folder's record names; returns at once.

    The store is told by the parent's writer, when it has the parent.

    Args:
        parent: the run that it appears under.
        folder: of what it records, for its own record.
        name: the run's.
        tags: its own, beside the parent's.
        goes_on: whether it is at work again where it has ended; else only what it lacks is written.

    Returns:
        The sink, which shares the parent's writer.

    Raises:
        OSError: the folder cannot be read.
    """
    target = dataclasses.replace(parent.run.target, run_id=None, run_name=name, parent_run_id=None, ends=True)
    target = dataclasses.replace(target, tags={**target.tags, **tags})
    seen = Seen()
    again: list[Entry] = []
    if known := read_journals(folder):
        run, entries = go_on(known[-1], target, parent.run)
        seen = Seen(entries)
        if goes_on:
            run.reopens, again = run.run_id is not None, [_runs_again()]
    else:
        made = dataclasses.replace(target, tags={**parent.run.journal.head.tags, **target.tags})
        run = TrackedRun(target, new_journal(folder, made, parent.run.key), parent.run)
        with contextlib.suppress(OSError):  # the writer tries again, and says so
            run.journal.claim()
    tracker = Tracker(run, parent._writer, seen, shared=True)
    parent._writer.serve(run, again)
    return tracker


def _runs_again() -> Entry:
    return Entry(state=State(RUNNING, int(time.time() * 1000)))


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

"""What a user sees of a run on the driver: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TextIO

from raytrainer.events import Began, Event, Logged, Note, Phase, Saved
from raytrainer.progress_live import LiveScreen
from raytrainer.progress_screens import PlainScreen, QuietScreen, Screen
from raytrainer.progress_view import View, duration, number

_SPEED_SUFFIXES = ("_runtime", "_per_second", "_model_preparation_time", "total_flos", "epoch")


class Progress:
    """A sink that shows a run to the user; the display begins when the object is made, before the workers stand.

    On a terminal the line stays alive between events, and what Ray and the user's program print meanwhile appears
    above it. Elsewhere begin, evaluations, notes and end are a line each, training logs one at most every
    ``interval`` seconds.

    Args:
        stream: where to, the process's stderr by default.
        description: what runs, for example ``training``.
        quiet: show nothing but warnings.
        clock: seconds, never going back.
        interval: seconds between two plain lines about training.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        description: str = "training",
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        interval: float = 5.0,
    ) -> None:
        self.phases: dict[str, float] = {}
        self._description, self._clock = description, clock
        self._created = clock()
        self._base: tuple[int, float] | None = None
        self._notes: set[str] = set()
        self._view = View(status="starting workers")
        self._closed = False
        self._screen = self._open_screen(stream or sys.stderr, quiet, interval)
        self._screen.show(self._line())

    def handle(self, event: Event) -> None:
        """Show one event.

        Args:
            event: what rank 0 told.
        """
        match event:
            case Phase():
                self.phases[event.name] = self.phases.get(event.name, 0.0) + event.seconds
                self._view = replace(self._view, status=f"starting ({self._phases_text()})")
                self._screen.show(self._line())
            case Began():
                self._begin(event)
            case Logged():
                self._log(event)
            case Saved():
                self._saved(event)
            case Note() if event.text not in self._notes:
                self._notes.add(event.text)
                self._screen.say(event.text, warning=event.warning)

    def close(self, error: BaseException | None) -> None:
        """End the display with one line on how the run ended.

        Args:
            error: what ended the run, None when it is done.
        """
        if self._closed:
            return
        self._closed = True
        how = "done" if error is None else f"failed: {type(error).__name__}"
        if isinstance(error, KeyboardInterrupt):
            how = "interrupted"
        end = replace(self._view, status="", rate=None, finish=None).line(self._clock())
        after = f"after {duration(self._clock() - self._created)}"
        self._screen.say("  ".join(part for part in (self._description, how, after, end) if part))
        self._screen.stop()

    def _open_screen(self, stream: TextIO, quiet: bool, interval: float) -> Screen:
        if quiet:
            return QuietScreen(stream)
        if stream.isatty() and os.environ.get("TERM") != "dumb":
            return LiveScreen(stream, self._line, self._share, self._clock)
        return PlainScreen(stream, self._clock, interval)

    def _line(self) -> str:
        return f"{self._description}  {self._view.line(self._clock())}"

    def _share(self) -> float | None:
        return self._view.step / self._view.max_steps if self._view.max_steps else None

    def _begin(self, event: Began) -> None:
        self._base = event.step, self._clock()
        self._view = View(status="" if event.max_steps else "running", step=event.step, max_steps=event.max_steps)
        workers = "1 worker" if event.world_size == 1 else f"{event.world_size} workers"
        parts = [self._description, self._view.position(), f"{workers}, {event.batch_size} examples a step"]
        parts += [event.precision, f"start-up: {self._phases_text()}" if self.phases else ""]
        self._screen.say("  ".join(part for part in parts if part))

    def _log(self, event: Logged) -> None:
        loss, rate = event.metrics.get("loss"), event.samples_per_second
        self._view = replace(
            self._view,
            status="" if event.max_steps else "running",
            step=event.step,
            max_steps=event.max_steps,
            epoch=event.epoch,
            loss=self._view.loss if loss is None else loss,
            rate=self._view.rate if rate is None else rate,
            finish=self._finish(event),
        )
        if any(name.startswith(("eval_", "test_")) or name.endswith("_runtime") for name in event.metrics):
            metrics = {name: value for name, value in event.metrics.items() if not name.endswith(_SPEED_SUFFIXES)}
            shown = [f"{name} {number(value)}" for name, value in metrics.items()]
            self._screen.say("  ".join(part for part in (self._view.position(), *shown) if part))
        else:
            self._screen.show(self._view.line(self._clock()))

    def _saved(self, event: Saved) -> None:
        size = f"{event.size / 1e6:.0f} MB" if event.size >= 1e6 else f"{event.size / 1e3:.0f} kB"
        cost = f"{event.seconds:.1f} s in the background, training stood still for {event.stalled:.2f} s"
        self._screen.say(f"saved {event.path}  {size}, {cost}")

    def _finish(self, event: Logged) -> float | None:
        if self._base is None or event.step <= self._base[0] or event.step >= event.max_steps:
            return None
        now = self._clock()
        return now + (event.max_steps - event.step) * (now - self._base[1]) / (event.step - self._base[0])

    def _phases_text(self) -> str:
        return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.phases.items())

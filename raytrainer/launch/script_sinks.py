"""Who is told what a script does: its output as it was written, and the records of its trainings."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable

from raytrainer.events import Began, Event, Logged, Printed
from raytrainer.sinks import Sink


class Shown:
    """Driver: a sink that writes rank 0's output to this process's stdout and stderr, byte for byte.

    On a terminal with a live line the two are rich's, which take text and print it above that line.
    """

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder(errors="replace") for stream in ("stdout", "stderr")}

    def handle(self, event: Event) -> None:
        if not isinstance(event, Printed):
            return
        stream = getattr(sys, event.stream)
        if stream is getattr(sys, f"__{event.stream}__"):
            stream.flush()
            stream.buffer.write(event.data)
        else:
            stream.write(self._decoders[event.stream].decode(event.data))
        stream.flush()

    def close(self, error: BaseException | None) -> None:
        pass


class Deferred:
    """Driver: a sink that is made of the first thing that a trainer tells; for a script that has none it never is.

    Args:
        make: makes it.
        kinds: of what.

    Attributes:
        sink: the one made; None before.
    """

    def __init__(self, make: Callable[[Event], Sink], kinds: tuple[type, ...] = (Began, Logged)) -> None:
        self.sink: Sink | None = None
        self._make, self._kinds = make, kinds

    def handle(self, event: Event) -> None:
        if self.sink is None and isinstance(event, self._kinds):
            self.sink = self._make(event)
        if self.sink is not None:
            self.sink.handle(event)

    def close(self, error: BaseException | None) -> None:
        if self.sink is not None:
            self.sink.close(error)

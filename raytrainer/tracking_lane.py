"""A background thread that is handed what has gathered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

# Seconds that an item waits for more, so that work is done for many at a time.
_GATHER_S = 0.2

_Item = TypeVar("_Item")


class Lane(Generic[_Item]):
    """Hands items to a function, batch after batch, in order, on a thread of its own.

    The thread begins with the first item and ends with :meth:`finish`; an item that comes later begins another one.

    Args:
        name: the thread's.
        work: takes the items, none of them when it asked to be called again, and whether somebody waits for the end;
            returns whether it wants to be called again though nothing new comes. It does not raise.
        again: seconds until it is.
    """

    def __init__(self, name: str, work: Callable[[list[_Item], bool], bool], again: float) -> None:
        self._name, self._work, self._again = name, work, again
        self._items: list[_Item] = []
        self._ending = False
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, items: Sequence[_Item]) -> None:
        """Take items; returns at once."""
        with self._wake:
            self._items += items
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._wake.notify()

    def finish(self, patience: float, progress: Callable[[], int]) -> None:
        """Return when all is done that was put, or when the work stands still.

        Args:
            patience: seconds that it may stand still.
            progress: a number that changes while it does not.
        """
        with self._wake:
            thread = self._thread
            self._ending = thread is not None
            self._wake.notify()
        while thread is not None and thread.is_alive():
            before = progress()
            thread.join(patience)
            if progress() == before:
                return

    def _run(self) -> None:
        more = False
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._ending or self._items, self._again if more else None)
                if not self._ending:
                    self._wake.wait_for(lambda: self._ending, _GATHER_S)
                ending, items = self._ending, self._items
                self._items = []
            more = self._work(items, ending)
            with self._wake:
                if ending and not self._items:
                    self._ending, self._thread = False, None
                    return

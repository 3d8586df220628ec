"""How all ranks agree to stop at the same step: a node that goes away, or the user's Ctrl-C."""

from __future__ import annotations

import time
from typing import Any

import ray.train
from ray.exceptions import RayActorError

from raytrainer.wire import Wire, Wish

# Seconds of training between two questions; each costs a few milliseconds on every rank.
_INTERVAL_S = 1.0


class Left(RayActorError):
    """A rank left for another group, because a node goes away or comes, and everything it did is stored.

    Ray Train counts it with preemptions and not with failures, and starts the next group at once.

    Args:
        step: optimizer steps done.
        reason: why, for people.
    """

    def __init__(self, step: int, reason: str) -> None:
        self.step, self.reason = step, reason
        super().__init__(error_msg=f"left at step {step}: {reason}", preempted=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return Left, (self.step, self.reason)


class Stopped(Exception):
    """The user asked to stop, and everything done so far is stored.

    Args:
        step: optimizer steps done.
    """

    def __init__(self, step: int) -> None:
        self.step = step
        super().__init__(step)


class Questions:
    """Worker, every rank: asks, at steps that all ranks know, whether the run has to leave.

    All have to leave at the same step, and Ray Train's call is a barrier: rank 0 says, with each answer, at which step
    the next question comes.

    Args:
        wire: to the driver, which knows of Ctrl-C.
        attempt: name of this attempt, the same on all ranks and in no other attempt.
        rank: this rank.
        world_size: how many ranks there are.
        preemptions: whether Ray Train watches for nodes that go away.
    """

    def __init__(self, wire: Wire, attempt: str, rank: int, world_size: int, preemptions: bool) -> None:
        self._wire, self._attempt, self._rank, self._world_size = wire, attempt, rank, world_size
        self._preemptions = preemptions
        self._asked = 0, time.monotonic()
        self._next, self._every = 1, 1

    def begin(self, step: int) -> None:
        """Begin to count at a step; in a new group, nobody has to leave yet."""
        if self._rank == 0:
            self._wire.forget_wish()
        self._asked, self._next = (step, time.monotonic()), step + 1

    def ask(self, step: int) -> Exception | None:
        """Return what the run has to end with at this step; None to go on.

        Args:
            step: optimizer steps done, the same on all ranks.
        """
        if step < self._next:
            return None
        answer = self._answer(step) if self._rank == 0 else None
        wish, self._every = self._wire.share(f"{self._attempt}/wish/{step}", answer, self._rank, self._world_size)
        self._next = step + self._every
        if self._preemptions and ray.train.get_preemption_info() is not None:
            return Left(step, "a node goes away")
        if wish is Wish.LEAVE:
            return Left(step, "the number of workers changes")
        return Stopped(step) if wish is Wish.STOP else None

    def _answer(self, step: int) -> tuple[Wish, int]:
        (last, then), now = self._asked, time.monotonic()
        self._asked = step, now
        steps = int(_INTERVAL_S * (step - last) / max(now - then, 1e-6))
        # Steps may become slower: not much farther ahead than last time.
        return self._wire.wish(), max(1, min(steps, 2 * self._every))

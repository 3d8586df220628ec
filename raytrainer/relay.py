"""The way back from rank 0 to the driver: events while the run goes on, and the result at its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray

from raytrainer.events import Evaluated, Event, Saved
from raytrainer.wire import Delivery, Post, Question, Verdict, Wish

# Seconds that what a sender says waits for what it said before, which may be gone with the sender.
_LOST_S = 10.0

# A method whose call Ray repeats where the connection broke, carried out or not: twice must be as once.
_sure = ray.method(max_task_retries=-1)


@dataclass
class _Turn:
    """How far a sender is: the number of its next call, and those of calls that were waited for in vain."""

    number: int = 0
    late: set[int] = field(default_factory=set)


@ray.remote(num_cpus=0)
class Relay:
    """An actor beside the driver. Rank 0 pushes, the driver drains.

    Ray begins calls that are under way at the same time in any order, and those whose connection breaks it loses, or
    loses their answers. So what a sender says is numbered, see ``push_next``, and what is asked twice under one name is
    done once.

    The other way it carries orders to all ranks, one after the other, and the driver's wish to stop to rank 0; and
    between the ranks what they tell rank 0 outside of training.
    """

    def __init__(self) -> None:
        self._post: Post | None = None
        self._posted = asyncio.Condition()
        self._closed = False
        self._done = -1
        self._idle: dict[int, int] = {}
        self._starts = 0
        self._events: asyncio.Queue[Event | Delivery | Question | None] = asyncio.Queue()
        self._turns: dict[str, _Turn] = {}
        self._turned = asyncio.Condition()
        self._drained: tuple[str, list[Event | Delivery | Question]] = ("", [])
        self._draining = asyncio.Lock()
        self._delivering = ""
        self._received = asyncio.Event()
        self._wish = Wish.GO_ON
        self._asked = ""
        self._verdict: asyncio.Future[Verdict] | None = None
        self._parts: dict[str, list[Any]] = {}
        self._parts_changed = asyncio.Condition()
        self._shared: dict[str, list[Any]] = {}
        self._shared_changed = asyncio.Condition()
        self._meetings: dict[str, Any] = {}
        self._saved: dict[str, Saved] = {}

    @_sure
    async def post(self, post: Post) -> None:
        """Give all ranks their next order."""
        async with self._posted:
            if self._post is None or self._post.number < post.number:
                self._post, self._wish, self._starts, self._saved = post, Wish.GO_ON, 0, {}
                self._posted.notify_all()

    @_sure
    async def next_order(self, rank: int, done: int | None) -> Post | None:
        """Return the order after the one with this number when it is there; None where no other will come.

        Args:
            rank: who asks.
            done: number of the order that this rank has carried out, None for a worker that has just been started.
        """
        async with self._posted:
            # One that has been started anew after a failure begins with what is not done.
            last = self._idle[rank] = self._done if done is None else done
            self._posted.notify_all()
            await self._posted.wait_for(lambda: self._closed or (self._post is not None and self._post.number > last))
            if self._post is None or self._post.number <= last:
                return None
            self._starts += rank == 0
            return self._post

    @_sure
    async def idle(self, number: int, ranks: int) -> int:
        """Return when all ranks have carried out an order, or none will; how often rank 0 has begun with it."""
        async with self._posted:
            await self._posted.wait_for(
                lambda: self._closed or sum(done >= number for done in self._idle.values()) >= ranks
            )
            return self._starts

    @_sure
    async def close(self) -> None:
        """Let the workers go that wait for an order, and answer who waits for them."""
        async with self._posted:
            self._closed = True
            self._posted.notify_all()

    @_sure
    async def closed(self) -> None:
        """Return when it is closed; where the actor dies, who waits for this knows it at once."""
        async with self._posted:
            await self._posted.wait_for(lambda: self._closed)

    async def push(self, *events: Event) -> None:
        for event in events:
            if isinstance(event, Saved):
                self._saved[os.path.dirname(event.path)] = event
            await self._events.put(event)

    @_sure
    async def saved(self) -> dict[str, Saved]:
        """Return what was saved last into each folder since the order was given."""
        return self._saved

    @_sure
    async def push_next(self, sender: str, number: int, *events: Event) -> None:
        """Push what a sender says, once, after all that it said before.

        Args:
            sender: a name that nobody else has.
            number: of this call among the sender's, from 0.
            *events: what it says.
        """
        turn = self._turns.setdefault(sender, _Turn())
        async with self._turned:
            if turn.number < number:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._turned.wait_for(lambda: turn.number >= number), _LOST_S)
            if number < turn.number and number not in turn.late:
                return
            turn.late = (turn.late | set(range(turn.number, number))) - {number}
            turn.number = max(turn.number, number + 1)
            await self.push(*events)
            self._turned.notify_all()

    @_sure
    async def drain(self, name: str, timeout: float) -> list[Event | Delivery | Question]:
        """Return the events that wait; where there are none, wait up to ``timeout`` seconds for one, or to be woken.

        Args:
            name: of this call, which no other has.
            timeout: in seconds.
        """
        async with self._draining:
            if name != self._drained[0]:
                self._drained = name, await self._next_events(timeout)
            return self._drained[1]

    async def _next_events(self, timeout: float) -> list[Event | Delivery | Question]:
        try:
            events = [await asyncio.wait_for(self._events.get(), timeout)]
        except asyncio.TimeoutError:
            return []
        while not self._events.empty():
            events.append(self._events.get_nowait())
        return [event for event in events if event is not None]

    async def wake(self) -> None:
        """Have the driver wait for events no longer: there will be none."""
        await self._events.put(None)

    @_sure
    async def deliver(self, name: str, delivery: Delivery) -> None:
        """Hand over the result and return when the driver holds it: the object is gone with its worker.

        Args:
            name: of this call, which no other has.
            delivery: the result.
        """
        if name != self._delivering:
            self._delivering = name
            self._received.clear()
            await self._events.put(delivery)
        await self._received.wait()
        # The last one is done when all ranks have left: a script's rank 0 may end before another one has asked for it,
        # and when that one fails the script starts again.
        if self._post is not None and not self._post.last:
            self._done = self._post.number

    @_sure
    async def received(self) -> None:
        """The driver holds what was delivered; from now on nothing here refers to it."""
        name, events = self._drained
        self._drained = name, [event for event in events if not isinstance(event, Delivery)]
        self._received.set()

    @_sure
    async def ask(self, wish: Wish) -> None:
        """Ask the workers to save, and then to stop, or to leave for a group of another size."""
        if self._wish is not Wish.STOP:
            self._wish = wish

    @_sure
    async def wish(self) -> Wish:
        return self._wish

    @_sure
    async def judge(self, name: str, evaluated: Evaluated) -> Verdict:
        """Hand an evaluation to the driver and return its verdict; rank 0 asks, and waits before it asks again.

        Args:
            name: of this call, which no other has.
            evaluated: the evaluation.
        """
        if self._verdict is None or name != self._asked:
            # Nobody waits for the one before: its rank 0 has its answer, or has died.
            self._asked, self._verdict = name, asyncio.Future()
            await self._events.put(Question(name, evaluated))
        return await self._verdict

    @_sure
    async def answer(self, name: str, verdict: Verdict) -> None:
        """Give the verdict that rank 0 waits for in the call of this name."""
        if self._verdict is not None and name == self._asked and not self._verdict.done():
            self._verdict.set_result(verdict)

    async def hand_in(self, key: str, part: Any) -> None:
        """Take a rank's part of what rank 0 waits for under this key."""
        async with self._parts_changed:
            self._parts.setdefault(key, []).append(part)
            self._parts_changed.notify_all()

    async def handed_in(self, key: str, count: int) -> list[Any]:
        """Return the parts under a key when there are ``count`` of them."""
        async with self._parts_changed:
            await self._parts_changed.wait_for(lambda: len(self._parts.get(key, [])) >= count)
            return self._parts.pop(key, [])

    async def share(self, key: str, value: Any, readers: int) -> None:
        """Have so many ranks read what rank 0 says under this key."""
        async with self._shared_changed:
            self._shared[key] = [value] * readers
            self._shared_changed.notify_all()

    async def shared(self, key: str) -> Any:
        """Return what rank 0 says under this key, when it does."""
        async with self._shared_changed:
            await self._shared_changed.wait_for(lambda: key in self._shared)
            value = self._shared[key].pop()
            if not self._shared[key]:
                del self._shared[key]
            return value

    async def meet(
        self, group: str, limits: dict[str, Any], name: str, arguments: Sequence[Any], named: dict[str, Any]
    ) -> Any:
        """Do what Ray Train's synchronization actor does for the ranks of a group, when the user's code asks for it.

        Args:
            group: which one.
            limits: what the actor is made with.
            name: of the method.
            arguments: its arguments.
            named: those by name.
        """
        if group not in self._meetings:
            from ray.train.v2._internal.execution.checkpoint.sync_actor import SynchronizationActor

            barrier = SynchronizationActor.__ray_metadata__.modified_class  # type: ignore[attr-defined]  # no actor
            self._meetings[group] = barrier(**limits)
        return await getattr(self._meetings[group], name)(*arguments, **named)

    async def part(self, group: str) -> None:
        """Forget a group, whose workers are gone."""
        self._meetings.pop(group, None)


def relay_here() -> Any:
    """Start a relay on this node."""
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    return Relay.options(label_selector=here).remote()  # type: ignore[attr-defined]  # ray.remote's classes carry no types

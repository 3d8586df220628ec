"""Which order a worker is given, early or late, and after a failure; and what is asked or said twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from raytrainer.events import Evaluated, Saved
from raytrainer.relay import Relay
from raytrainer.wire import Delivery, Post, Question, Verdict, Wish

# What is waited for comes at once, or never.
NEVER_S = 10.0


def order(number: int, last: bool) -> Post:
    return Post(number, [], [], last)


def with_a_relay(play: Callable[[Any], Awaitable[None]]) -> None:
    # The actor's class, in this process.
    asyncio.run(asyncio.wait_for(play(Relay.__ray_metadata__.modified_class()), NEVER_S))  # type: ignore[attr-defined]


async def deliver(relay: Any) -> None:
    """Rank 0 hands over what it has, and the driver takes it."""
    delivering = asyncio.create_task(relay.deliver("result", Delivery([])))
    assert await relay.drain("first", NEVER_S) == [Delivery([])]
    await relay.received()
    await delivering


def test_a_rank_that_comes_when_rank_0_has_ended_has_its_script_to_run() -> None:
    async def play(relay: Any) -> None:
        await relay.post(order(0, last=True))
        assert await relay.next_order(0, None) == order(0, last=True)
        await deliver(relay)
        assert await relay.next_order(1, None) == order(0, last=True)

    with_a_relay(play)


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_that_are_started_anew_do_not_do_again_what_was_delivered(rank: int) -> None:
    async def play(relay: Any) -> None:
        await relay.post(order(0, last=False))
        for each in (0, 1):
            assert await relay.next_order(each, None) == order(0, last=False)
        await deliver(relay)
        # One of them has ended, the other one has died before it could say so; the driver waits for both.
        driver = asyncio.create_task(relay.idle(0, 2))
        asked = [asyncio.create_task(relay.next_order(1 - rank, 0))]
        asked += [asyncio.create_task(relay.next_order(each, None)) for each in (0, 1)]
        await driver
        assert not any(each.done() for each in asked)
        await relay.post(order(1, last=True))
        assert await asyncio.gather(*asked) == [order(1, last=True)] * 3

    with_a_relay(play)


def test_what_was_not_delivered_is_begun_anew() -> None:
    async def play(relay: Any) -> None:
        await relay.post(order(0, last=False))
        for rank in (0, 1, 0, 1):
            assert await relay.next_order(rank, None) == order(0, last=False)
        await relay.close()
        assert [await relay.next_order(rank, 0) for rank in (0, 1)] == [None, None]
        assert await relay.idle(0, 2) == 2

    with_a_relay(play)


def test_what_was_saved_is_known_until_the_next_order() -> None:
    async def play(relay: Any) -> None:
        await relay.post(order(0, last=False))
        for number, path in enumerate(("a/checkpoint-1", "b/checkpoint-5", "a/checkpoint-2")):
            await relay.push_next("rank 0", number, Saved(int(path[-1]), path, 1, 1.0, 0.0, "node"))
        assert {folder: saved.step for folder, saved in (await relay.saved()).items()} == {"a": 2, "b": 5}
        await relay.post(order(0, last=False))
        assert await relay.saved(), "the same order again"
        await relay.post(order(1, last=False))
        assert not await relay.saved()

    with_a_relay(play)


def test_what_a_sender_says_keeps_its_order_whichever_call_begins_first() -> None:
    async def play(relay: Any) -> None:
        calls = [relay.push_next(sender, number, f"{sender}{number}") for number in (2, 0, 1) for sender in "ab"]
        await asyncio.gather(*calls)
        heard = await relay.drain("first", NEVER_S)
        assert [each for each in heard if each[0] == "a"] == ["a0", "a1", "a2"]
        assert [each for each in heard if each[0] == "b"] == ["b0", "b1", "b2"]

    with_a_relay(play)


def test_what_was_lost_on_the_way_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raytrainer.relay._LOST_S", 0.01)

    async def play(relay: Any) -> None:
        for number in (0, 2, 3):
            await relay.push_next("a", number, number)
        assert await relay.drain("first", NEVER_S) == [0, 2, 3]

    with_a_relay(play)


def test_what_is_late_comes_after_all_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raytrainer.relay._LOST_S", 0.01)

    async def play(relay: Any) -> None:
        for number in (0, 0, 3, 3, 1, 0, 1, 4):
            await relay.push_next("a", number, number)
        assert await relay.drain("first", NEVER_S) == [0, 3, 1, 4]

    with_a_relay(play)


def test_events_whose_answer_was_lost_are_there_when_they_are_asked_for_again() -> None:
    async def play(relay: Any) -> None:
        # The first call still waits in the relay when the driver asks again.
        waiting = [asyncio.create_task(relay.drain("first", NEVER_S)) for _ in range(2)]
        await asyncio.sleep(0)
        await relay.push("a")
        assert await asyncio.gather(*waiting) == [["a"], ["a"]]
        assert await relay.drain("first", NEVER_S) == ["a"]
        await relay.push("b")
        assert await relay.drain("second", NEVER_S) == ["b"]

    with_a_relay(play)


def test_a_question_is_put_once_and_its_answer_is_no_other_ones() -> None:
    async def play(relay: Any) -> None:
        evaluated = Evaluated(1, 2, None, {}, 0.0)
        for name, verdict in (("one", Verdict.SAVE), ("two", Verdict.GO_ON)):
            asking = [asyncio.create_task(relay.judge(name, evaluated)) for _ in range(2)]
            assert await relay.drain(name, NEVER_S) == [Question(name, evaluated)]
            # The answer to the question before comes again.
            await relay.answer("one", Verdict.SAVE)
            await relay.answer(name, verdict)
            assert await asyncio.gather(*asking) == [verdict] * 2
            assert await relay.judge(name, evaluated) is verdict

    with_a_relay(play)


def test_a_result_is_delivered_once() -> None:
    async def play(relay: Any) -> None:
        await relay.post(order(0, last=False))
        delivering = [asyncio.create_task(relay.deliver("result", Delivery([]))) for _ in range(2)]
        assert await relay.drain("first", NEVER_S) == [Delivery([])]
        await relay.received()
        await asyncio.gather(*delivering, relay.deliver("result", Delivery([])))
        await relay.wake()
        assert await relay.drain("second", NEVER_S) == []

    with_a_relay(play)


def test_an_order_that_comes_again_changes_nothing() -> None:
    async def play(relay: Any) -> None:
        await relay.post(order(0, last=True))
        await relay.ask(Wish.STOP)
        await relay.post(order(0, last=True))
        assert await relay.wish() is Wish.STOP

    with_a_relay(play)

"""Bells ring for those who wait and those who will, for nobody else, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Callable

import pytest

from stagecast.notifier import Notifier, Subscription

LONG_S = 30.0  # a deadline: whoever needs it has failed
SHORT_S = 0.01


def gone(seen: Callable[[], object]) -> bool:
    """Tell whether nobody holds it any more."""
    gc.collect()
    return seen() is None


async def test_ring_before_the_wait_is_kept() -> None:
    subscription = Subscription()
    subscription.notify()
    assert subscription.notified
    assert await subscription.wait(LONG_S)


async def test_ring_wakes_who_waits() -> None:
    subscription = Subscription()
    waiting = asyncio.create_task(subscription.wait(LONG_S))
    await asyncio.sleep(0)  # it waits
    assert not waiting.done()
    subscription.notify()
    assert await waiting


async def test_one_ring_wakes_all_who_wait() -> None:
    subscription = Subscription()
    waiting = [asyncio.create_task(subscription.wait(LONG_S)) for _ in range(3)]
    await asyncio.sleep(0)  # they wait
    subscription.notify()
    assert await asyncio.gather(*waiting) == [True] * 3


async def test_wait_without_a_ring_ends_in_time_with_false() -> None:
    subscription = Subscription()
    assert not await subscription.wait(SHORT_S)
    assert not subscription.notified


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_wait_without_any_time_says_whether_it_rang(timeout_s: float) -> None:
    subscription = Subscription()
    assert not await subscription.wait(timeout_s)
    subscription.notify()
    assert await subscription.wait(timeout_s)


async def test_bell_rings_until_it_is_cleared_however_often_it_was_rung() -> None:
    subscription = Subscription()
    subscription.notify()
    subscription.notify()
    assert await subscription.wait(LONG_S)
    assert await subscription.wait(LONG_S), "to wait does not clear it"
    subscription.clear()
    assert not subscription.notified
    assert not await subscription.wait(SHORT_S), "two rings are one"


async def test_wait_that_is_cancelled_is_cancelled_and_takes_no_ring_away() -> None:
    subscription = Subscription()
    waiting = asyncio.create_task(subscription.wait(LONG_S))
    await asyncio.sleep(0)  # it waits
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    subscription.notify()
    assert await subscription.wait(LONG_S)


@pytest.mark.parametrize("seed", range(20))
async def test_who_clears_then_reads_then_waits_misses_no_change(seed: int) -> None:
    rng = random.Random(seed)
    notifier = Notifier()
    written = 0

    async def idle() -> None:
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)

    async def write() -> None:
        nonlocal written
        for _ in range(100):
            await idle()
            written += 1
            await idle()  # it is committed, and soon rung
            notifier.notify([("batch",)])

    async def read() -> int:
        with notifier.subscribe(("batch",)) as subscription:
            while True:
                subscription.clear()
                await idle()
                actual = written
                await idle()
                if actual == 100:
                    return actual
                assert await subscription.wait(LONG_S), f"a change after {actual} was lost"

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read()) for _ in range(3)]
        group.create_task(write())
    assert [reader.result() for reader in readers] == [100] * 3


def test_fresh_listener_hears_nothing() -> None:
    notifier = Notifier()
    notifier.notify([("batch",)])
    with notifier.subscribe(("batch",)) as subscription:
        assert not subscription.notified


def test_all_listeners_of_a_topic_hear_it() -> None:
    notifier = Notifier()
    with notifier.subscribe(("d", "b")) as one, notifier.subscribe(("d", "b")) as two:
        notifier.notify([("d", "b")])
        assert one.notified
        assert two.notified


def test_each_listener_clears_its_own_bell_only() -> None:
    notifier = Notifier()
    with notifier.subscribe(("batch",)) as one, notifier.subscribe(("batch",)) as two:
        notifier.notify([("batch",)])
        one.clear()
        assert two.notified


def test_listeners_of_other_topics_stay_silent() -> None:
    notifier = Notifier()
    with (
        notifier.subscribe(("d", "b")) as mine,
        notifier.subscribe(("d", "c")) as other,
        notifier.subscribe(("e", "b")) as elsewhere,
    ):
        notifier.notify([("d", "b")])
        assert [mine.notified, other.notified, elsewhere.notified] == [True, False, False]


@pytest.mark.parametrize(
    ("notified", "heard"),
    [
        ([("d", "b")], {"all", "dataset", "batch"}),
        ([("d", "c")], {"all", "dataset"}),
        ([("d",)], {"all", "dataset"}),
        ([("e", "b")], {"all"}),
        ([], set()),
    ],
)
def test_ring_is_heard_by_whoever_listens_to_something_that_it_is_part_of(
    notified: list[tuple[str, ...]], heard: set[str]
) -> None:
    notifier = Notifier()
    with (
        notifier.subscribe(()) as everything,
        notifier.subscribe(("d",)) as dataset,
        notifier.subscribe(("d", "b")) as batch,
    ):
        notifier.notify(notified)
        subscriptions = {"all": everything, "dataset": dataset, "batch": batch}
        assert {
            name for name, subscription in subscriptions.items() if subscription.notified
        } == heard


def test_ring_only_is_heard_by_its_own_listeners() -> None:
    notifier = Notifier()
    with notifier.subscribe(("d",)) as dataset, notifier.subscribe(("d", "b")) as batch:
        notifier.notify_only([("d", "b"), ("nobody",)])
        assert [dataset.notified, batch.notified] == [False, True]


def test_one_bell_may_listen_to_several_topics() -> None:
    notifier = Notifier()
    with notifier.subscribe(("a",), ("b",)) as subscription:
        for topic in (("a",), ("b",)):
            notifier.notify([topic])
            assert subscription.notified
            subscription.clear()
        assert sorted(notifier.topics()) == [("a",), ("b",)]
    assert notifier.topics() == []


def test_one_ring_reaches_several_topics_and_those_without_listeners_do_no_harm() -> None:
    notifier = Notifier()
    with (
        notifier.subscribe(("a",)) as first,
        notifier.subscribe(("b",)) as second,
        notifier.subscribe(("c",)) as third,
    ):
        notifier.notify((topic,) for topic in ("nobody", "a", "b", "a"))
        assert [first.notified, second.notified, third.notified] == [True, True, False]


def test_ring_of_no_topics_is_heard_by_nobody() -> None:
    notifier = Notifier()
    with notifier.subscribe(("a",)) as subscription:
        notifier.notify([])
        assert not subscription.notified


async def test_close_wakes_everybody_and_tells_why() -> None:
    notifier = Notifier()
    assert not notifier.closed
    with notifier.subscribe(("a",)) as one, notifier.subscribe(("b",)) as two:
        waiting = [asyncio.create_task(subscription.wait(LONG_S)) for subscription in (one, two)]
        await asyncio.sleep(0)  # they wait
        notifier.close()
        assert notifier.closed
        assert await asyncio.gather(*waiting) == [True, True]


def test_who_listened_hears_nothing_more() -> None:
    notifier = Notifier()
    with notifier.subscribe(("a",)) as subscription:
        pass
    notifier.notify([("a",)])
    notifier.close()
    assert not subscription.notified


def test_who_stops_listening_leaves_the_others_of_the_topic_alone() -> None:
    notifier = Notifier()
    with notifier.subscribe(("a",)) as stays:
        with notifier.subscribe(("a",)):
            pass
        notifier.notify([("a",)])
        assert stays.notified


def test_who_ends_first_of_two_that_overlap_does_not_matter() -> None:
    notifier = Notifier()
    first, second = notifier.subscribe(("a",)), notifier.subscribe(("a",))
    first.__enter__()
    subscription = second.__enter__()
    first.__exit__(None, None, None)
    notifier.notify([("a",)])
    assert subscription.notified
    second.__exit__(None, None, None)


def test_feed_forgets_a_topic_when_its_last_listener_ends() -> None:
    notifier = Notifier()
    with notifier.subscribe(("a",)):
        with notifier.subscribe(("a",)):
            pass
        assert notifier.topics() == [("a",)]
    assert notifier.topics() == []


def test_feed_forgets_a_bell_when_its_listener_ends() -> None:
    notifier = Notifier()
    with notifier.subscribe(("a",)):
        with notifier.subscribe(("a",)) as subscription:
            seen = weakref.ref(subscription)
            del subscription
            assert not gone(seen)
        assert gone(seen)


def test_feed_forgets_a_topic_when_its_listener_fails() -> None:
    notifier = Notifier()
    with pytest.raises(LookupError), notifier.subscribe(("a",)):
        raise LookupError
    assert notifier.topics() == []


def test_feed_keeps_no_topic_that_was_only_rung() -> None:
    notifier = Notifier()
    notifier.notify([("a",)])
    assert notifier.topics() == []

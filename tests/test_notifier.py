"""Notifications reach current and future waiters of their topics only, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Callable

import pytest

from stagecast.notifier import Notifier, Subscription

LONG_S = 30.0  # a deadline, reached only by a failing test
SHORT_S = 0.01


def is_freed(reference: Callable[[], object]) -> bool:
    """Return whether no reference to the object is left."""
    gc.collect()
    return reference() is None


async def test_notification_before_the_wait_is_not_lost() -> None:
    subscription = Subscription()
    subscription.notify()
    assert subscription.notified
    assert await subscription.wait(LONG_S)


async def test_notification_wakes_the_waiter() -> None:
    subscription = Subscription()
    waiting = asyncio.create_task(subscription.wait(LONG_S))
    await asyncio.sleep(0)  # it waits
    assert not waiting.done()
    subscription.notify()
    assert await waiting


async def test_one_notification_wakes_all_waiters() -> None:
    subscription = Subscription()
    waiting = [asyncio.create_task(subscription.wait(LONG_S)) for _ in range(3)]
    await asyncio.sleep(0)  # they wait
    subscription.notify()
    assert await asyncio.gather(*waiting) == [True] * 3


async def test_wait_without_a_notification_returns_false_at_the_timeout() -> None:
    subscription = Subscription()
    assert not await subscription.wait(SHORT_S)
    assert not subscription.notified


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_wait_without_a_timeout_left_returns_whether_notified(timeout_s: float) -> None:
    subscription = Subscription()
    assert not await subscription.wait(timeout_s)
    subscription.notify()
    assert await subscription.wait(timeout_s)


async def test_subscription_stays_notified_until_cleared() -> None:
    subscription = Subscription()
    subscription.notify()
    subscription.notify()
    assert await subscription.wait(LONG_S)
    assert await subscription.wait(LONG_S), "a wait does not clear it"
    subscription.clear()
    assert not subscription.notified
    assert not await subscription.wait(SHORT_S), "two notifications are one"


async def test_cancelled_wait_loses_no_notification() -> None:
    subscription = Subscription()
    waiting = asyncio.create_task(subscription.wait(LONG_S))
    await asyncio.sleep(0)  # it waits
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    subscription.notify()
    assert await subscription.wait(LONG_S)


@pytest.mark.parametrize("seed", range(20))
async def test_clear_then_read_then_wait_misses_no_change(seed: int) -> None:
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
            await idle()  # committed, and notified soon
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


def test_new_subscription_is_not_notified() -> None:
    notifier = Notifier()
    notifier.notify([("batch",)])
    with notifier.subscribe(("batch",)) as subscription:
        assert not subscription.notified


def test_all_subscriptions_of_a_topic_are_notified() -> None:
    notifier = Notifier()
    with notifier.subscribe(("d", "b")) as one, notifier.subscribe(("d", "b")) as two:
        notifier.notify([("d", "b")])
        assert one.notified
        assert two.notified


def test_clear_affects_only_its_own_subscription() -> None:
    notifier = Notifier()
    with notifier.subscribe(("batch",)) as one, notifier.subscribe(("batch",)) as two:
        notifier.notify([("batch",)])
        one.clear()
        assert two.notified


def test_subscriptions_of_other_topics_are_not_notified() -> None:
    notifier = Notifier()
    with (
        notifier.subscribe(("d", "b")) as mine,
        notifier.subscribe(("d", "c")) as other,
        notifier.subscribe(("e", "b")) as elsewhere,
    ):
        notifier.notify([("d", "b")])
        assert [mine.notified, other.notified, elsewhere.notified] == [True, False, False]


@pytest.mark.parametrize(
    ("topics", "notified"),
    [
        ([("d", "b")], {"all", "dataset", "batch"}),
        ([("d", "c")], {"all", "dataset"}),
        ([("d",)], {"all", "dataset"}),
        ([("e", "b")], {"all"}),
        ([], set()),
    ],
)
def test_notify_reaches_the_topics_that_contain_it(
    topics: list[tuple[str, ...]], notified: set[str]
) -> None:
    notifier = Notifier()
    with (
        notifier.subscribe(()) as everything,
        notifier.subscribe(("d",)) as dataset,
        notifier.subscribe(("d", "b")) as batch,
    ):
        notifier.notify(topics)
        subscriptions = {"all": everything, "dataset": dataset, "batch": batch}
        assert {
            name for name, subscription in subscriptions.items() if subscription.notified
        } == notified


def test_notify_only_reaches_exactly_its_topics() -> None:
    notifier = Notifier()
    with notifier.subscribe(("d",)) as dataset, notifier.subscribe(("d", "b")) as batch:
        notifier.notify_only([("d", "b"), ("nobody",)])
        assert [dataset.notified, batch.notified] == [False, True]


def test_one_subscription_may_have_several_topics() -> None:
    notifier = Notifier()
    with notifier.subscribe(("a",), ("b",)) as subscription:
        for topic in (("a",), ("b",)):
            notifier.notify([topic])
            assert subscription.notified
            subscription.clear()
        assert sorted(notifier.topics()) == [("a",), ("b",)]
    assert notifier.topics() == []


def test_one_notify_reaches_several_topics_and_ignores_unknown_ones() -> None:
    notifier = Notifier()
    with (
        notifier.subscribe(("a",)) as first,
        notifier.subscribe(("b",)) as second,
        notifier.subscribe(("c",)) as third,
    ):
        notifier.notify((topic,) for topic in ("nobody", "a", "b", "a"))
        assert [first.notified, second.notified, third.notified] == [True, True, False]


def test_notify_without_topics_notifies_nobody() -> None:
    notifier = Notifier()
    with notifier.subscribe(("a",)) as subscription:
        notifier.notify([])
        assert not subscription.notified


async def test_close_wakes_all_subscriptions() -> None:
    notifier = Notifier()
    assert not notifier.closed
    with notifier.subscribe(("a",)) as one, notifier.subscribe(("b",)) as two:
        waiting = [asyncio.create_task(subscription.wait(LONG_S)) for subscription in (one, two)]
        await asyncio.sleep(0)  # they wait
        notifier.close()
        assert notifier.closed
        assert await asyncio.gather(*waiting) == [True, True]


def test_subscription_without_topics_is_notified_of_the_close_only() -> None:
    notifier = Notifier()
    with notifier.subscribe() as subscription:
        notifier.notify([("a",)])
        assert notifier.topics() == []
        assert not subscription.notified
        notifier.close()
        assert subscription.notified


def test_unsubscribed_listener_is_not_notified() -> None:
    notifier = Notifier()
    with notifier.subscribe(("a",)) as subscription:
        pass
    notifier.notify([("a",)])
    notifier.close()
    assert not subscription.notified


def test_unsubscribing_keeps_other_subscriptions_of_the_topic() -> None:
    notifier = Notifier()
    with notifier.subscribe(("a",)) as remaining:
        with notifier.subscribe(("a",)):
            pass
        notifier.notify([("a",)])
        assert remaining.notified


def test_overlapping_subscriptions_may_end_in_any_order() -> None:
    notifier = Notifier()
    first, second = notifier.subscribe(("a",)), notifier.subscribe(("a",))
    first.__enter__()
    subscription = second.__enter__()
    first.__exit__(None, None, None)
    notifier.notify([("a",)])
    assert subscription.notified
    second.__exit__(None, None, None)


def test_topic_is_removed_with_its_last_subscription() -> None:
    notifier = Notifier()
    with notifier.subscribe(("a",)):
        with notifier.subscribe(("a",)):
            pass
        assert notifier.topics() == [("a",)]
    assert notifier.topics() == []


def test_ended_subscription_is_freed() -> None:
    notifier = Notifier()
    with notifier.subscribe(("a",)):
        with notifier.subscribe(("a",)) as subscription:
            reference = weakref.ref(subscription)
            del subscription
            assert not is_freed(reference)
        assert is_freed(reference)


def test_topic_is_removed_after_an_error_in_the_block() -> None:
    notifier = Notifier()
    with pytest.raises(LookupError), notifier.subscribe(("a",)):
        raise LookupError
    assert notifier.topics() == []


def test_notify_creates_no_topic() -> None:
    notifier = Notifier()
    notifier.notify([("a",)])
    assert notifier.topics() == []


async def test_notifier_is_used_as_long_as_it_has_topics() -> None:
    """Only for topics, commits of other processes are polled."""
    notifier = Notifier()
    with notifier.subscribe():
        assert not notifier.is_used
        with notifier.subscribe(("dataset",)):
            assert notifier.is_used
        assert not notifier.is_used

"""Bells ring for those who wait and those who will, for nobody else, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import Callable

import pytest

from stagecast.feed import Bell, Feed

LONG_S = 30.0  # a deadline: whoever needs it has failed
SHORT_S = 0.01


def gone(seen: Callable[[], object]) -> bool:
    """Tell whether nobody holds it any more."""
    gc.collect()
    return seen() is None


async def test_ring_before_the_wait_is_kept() -> None:
    bell = Bell()
    bell.ring()
    assert bell.rung
    assert await bell.wait(LONG_S)


async def test_ring_wakes_who_waits() -> None:
    bell = Bell()
    waiting = asyncio.create_task(bell.wait(LONG_S))
    await asyncio.sleep(0)  # it waits
    assert not waiting.done()
    bell.ring()
    assert await waiting


async def test_one_ring_wakes_all_who_wait() -> None:
    bell = Bell()
    waiting = [asyncio.create_task(bell.wait(LONG_S)) for _ in range(3)]
    await asyncio.sleep(0)  # they wait
    bell.ring()
    assert await asyncio.gather(*waiting) == [True] * 3


async def test_wait_without_a_ring_ends_in_time_with_false() -> None:
    bell = Bell()
    assert not await bell.wait(SHORT_S)
    assert not bell.rung


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_wait_without_any_time_says_whether_it_rang(timeout_s: float) -> None:
    bell = Bell()
    assert not await bell.wait(timeout_s)
    bell.ring()
    assert await bell.wait(timeout_s)


async def test_bell_rings_until_it_is_cleared_however_often_it_was_rung() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    assert await bell.wait(LONG_S)
    assert await bell.wait(LONG_S), "to wait does not clear it"
    bell.clear()
    assert not bell.rung
    assert not await bell.wait(SHORT_S), "two rings are one"


async def test_wait_that_is_cancelled_is_cancelled_and_takes_no_ring_away() -> None:
    bell = Bell()
    waiting = asyncio.create_task(bell.wait(LONG_S))
    await asyncio.sleep(0)  # it waits
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    bell.ring()
    assert await bell.wait(LONG_S)


@pytest.mark.parametrize("seed", range(20))
async def test_who_clears_then_reads_then_waits_misses_no_change(seed: int) -> None:
    rng = random.Random(seed)
    feed = Feed()
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
            feed.ring([("batch",)])

    async def read() -> int:
        with feed.listen(("batch",)) as bell:
            while True:
                bell.clear()
                await idle()
                found = written
                await idle()
                if found == 100:
                    return found
                assert await bell.wait(LONG_S), f"a change after {found} was lost"

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read()) for _ in range(3)]
        group.create_task(write())
    assert [reader.result() for reader in readers] == [100] * 3


def test_fresh_listener_hears_nothing() -> None:
    feed = Feed()
    feed.ring([("batch",)])
    with feed.listen(("batch",)) as bell:
        assert not bell.rung


def test_all_listeners_of_a_topic_hear_it() -> None:
    feed = Feed()
    with feed.listen(("d", "b")) as one, feed.listen(("d", "b")) as two:
        feed.ring([("d", "b")])
        assert one.rung
        assert two.rung


def test_each_listener_clears_its_own_bell_only() -> None:
    feed = Feed()
    with feed.listen(("batch",)) as one, feed.listen(("batch",)) as two:
        feed.ring([("batch",)])
        one.clear()
        assert two.rung


def test_listeners_of_other_topics_stay_silent() -> None:
    feed = Feed()
    with (
        feed.listen(("d", "b")) as mine,
        feed.listen(("d", "c")) as other,
        feed.listen(("e", "b")) as elsewhere,
    ):
        feed.ring([("d", "b")])
        assert [mine.rung, other.rung, elsewhere.rung] == [True, False, False]


@pytest.mark.parametrize(
    ("rung", "heard"),
    [
        ([("d", "b")], {"all", "dataset", "batch"}),
        ([("d", "c")], {"all", "dataset"}),
        ([("d",)], {"all", "dataset"}),
        ([("e", "b")], {"all"}),
        ([], set()),
    ],
)
def test_ring_is_heard_by_whoever_listens_to_something_that_it_is_part_of(
    rung: list[tuple[str, ...]], heard: set[str]
) -> None:
    feed = Feed()
    with (
        feed.listen(()) as everything,
        feed.listen(("d",)) as dataset,
        feed.listen(("d", "b")) as batch,
    ):
        feed.ring(rung)
        bells = {"all": everything, "dataset": dataset, "batch": batch}
        assert {name for name, bell in bells.items() if bell.rung} == heard


def test_ring_only_is_heard_by_its_own_listeners() -> None:
    feed = Feed()
    with feed.listen(("d",)) as dataset, feed.listen(("d", "b")) as batch:
        feed.ring_only([("d", "b"), ("nobody",)])
        assert [dataset.rung, batch.rung] == [False, True]


def test_one_bell_may_listen_to_several_topics() -> None:
    feed = Feed()
    with feed.listen(("a",), ("b",)) as bell:
        for topic in (("a",), ("b",)):
            feed.ring([topic])
            assert bell.rung
            bell.clear()
        assert sorted(feed.topics()) == [("a",), ("b",)]
    assert feed.topics() == []


def test_one_ring_reaches_several_topics_and_those_without_listeners_do_no_harm() -> None:
    feed = Feed()
    with feed.listen(("a",)) as first, feed.listen(("b",)) as second, feed.listen(("c",)) as third:
        feed.ring((topic,) for topic in ("nobody", "a", "b", "a"))
        assert [first.rung, second.rung, third.rung] == [True, True, False]


def test_ring_of_no_topics_is_heard_by_nobody() -> None:
    feed = Feed()
    with feed.listen(("a",)) as bell:
        feed.ring([])
        assert not bell.rung


async def test_close_wakes_everybody_and_tells_why() -> None:
    feed = Feed()
    assert not feed.closed
    with feed.listen(("a",)) as one, feed.listen(("b",)) as two:
        waiting = [asyncio.create_task(bell.wait(LONG_S)) for bell in (one, two)]
        await asyncio.sleep(0)  # they wait
        feed.close()
        assert feed.closed
        assert await asyncio.gather(*waiting) == [True, True]


def test_who_listened_hears_nothing_more() -> None:
    feed = Feed()
    with feed.listen(("a",)) as bell:
        pass
    feed.ring([("a",)])
    feed.close()
    assert not bell.rung


def test_who_stops_listening_leaves_the_others_of_the_topic_alone() -> None:
    feed = Feed()
    with feed.listen(("a",)) as stays:
        with feed.listen(("a",)):
            pass
        feed.ring([("a",)])
        assert stays.rung


def test_who_ends_first_of_two_that_overlap_does_not_matter() -> None:
    feed = Feed()
    first, second = feed.listen(("a",)), feed.listen(("a",))
    first.__enter__()
    bell = second.__enter__()
    first.__exit__(None, None, None)
    feed.ring([("a",)])
    assert bell.rung
    second.__exit__(None, None, None)


def test_feed_forgets_a_topic_when_its_last_listener_ends() -> None:
    feed = Feed()
    with feed.listen(("a",)):
        with feed.listen(("a",)):
            pass
        assert feed.topics() == [("a",)]
    assert feed.topics() == []


def test_feed_forgets_a_bell_when_its_listener_ends() -> None:
    feed = Feed()
    with feed.listen(("a",)):
        with feed.listen(("a",)) as bell:
            seen = weakref.ref(bell)
            del bell
            assert not gone(seen)
        assert gone(seen)


def test_feed_forgets_a_topic_when_its_listener_fails() -> None:
    feed = Feed()
    with pytest.raises(LookupError), feed.listen(("a",)):
        raise LookupError
    assert feed.topics() == []


def test_feed_keeps_no_topic_that_was_only_rung() -> None:
    feed = Feed()
    feed.ring([("a",)])
    assert feed.topics() == []

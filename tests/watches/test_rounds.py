"""A lone event is pushed at once; those that come during a round are pushed together after it."""

from __future__ import annotations

import asyncio

import pytest

from stagecast.notifier import Notifier, Subscription
from stagecast.watches import Rounds, rounds
from stagecast.watches.tail import Tails
from tests.conditions import until
from tests.watches.test_watch import Numbers

NEVER_S = 3_600.0


class Waiting:
    """Subscriptions, each with somebody who waits."""

    def __init__(self, count: int) -> None:
        self.subscriptions = [Subscription() for _ in range(count)]
        self.tasks = [asyncio.create_task(each.wait()) for each in self.subscriptions]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for blocked readers for ever."""
    monkeypatch.setattr(rounds, "_BLOCKED_S", NEVER_S)


async def woken(pacing: Rounds, count: int) -> list[Subscription]:
    """Begin a round, wake so many watches, and return them."""
    waiting = Waiting(count)
    await asyncio.sleep(0)  # they wait
    async with asyncio.timeout(60):
        await pacing.begin("tail")
        await pacing.wake(waiting.subscriptions)
        await asyncio.gather(*waiting.tasks)
    return waiting.subscriptions


async def begins(pacing: Rounds) -> asyncio.Task[None]:
    """Let another tail wait for the next round."""
    task = asyncio.create_task(pacing.begin("other"))
    for _ in range(10):
        await asyncio.sleep(0)
    return task


async def test_event_while_nothing_is_pushed_goes_at_once() -> None:
    pacing = Rounds()
    for _ in range(3):
        for subscription in await woken(pacing, 2):
            pacing.done(subscription)
        pacing.done("tail")


@pytest.mark.usefixtures("patient")
async def test_round_ends_when_its_tail_and_all_woken_watches_are_back() -> None:
    pacing = Rounds()
    first, second = await woken(pacing, 2)
    task = await begins(pacing)
    for member in ("tail", first, second):
        assert not task.done()
        pacing.done(member)
    async with asyncio.timeout(60):
        await task


@pytest.mark.usefixtures("patient")
async def test_watch_that_ends_is_not_waited_for() -> None:
    pacing = Rounds()
    [subscription] = await woken(pacing, 1)
    pacing.done("tail")
    task = await begins(pacing)
    assert not task.done()
    pacing.leave(subscription)
    async with asyncio.timeout(60):
        await task


@pytest.mark.usefixtures("patient")
async def test_watch_that_does_not_wait_is_not_waited_for() -> None:
    """It is blocked in a write, or reads the store itself."""
    pacing = Rounds()
    async with asyncio.timeout(60):
        await pacing.begin("tail")
        await pacing.wake([Subscription()])
        pacing.done("tail")
        await pacing.begin("other")


@pytest.mark.usefixtures("patient")
async def test_watch_that_ends_before_its_turn_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "_TOGETHER", 1)
    pacing = Rounds()
    waiting = Waiting(2)
    first, second = waiting.subscriptions
    await asyncio.sleep(0)  # they wait
    async with asyncio.timeout(60):
        await pacing.begin("tail")
        waking = asyncio.create_task(pacing.wake(waiting.subscriptions))
        await asyncio.sleep(0)  # it has woken the first one
        waiting.tasks[1].cancel()
        pacing.leave(second)
        await waking
        pacing.done(first)
        pacing.done("tail")
        await pacing.begin("other")


async def test_blocked_reader_delays_one_round_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_BLOCKED_S", 0.01)
    pacing = Rounds()
    [blocked] = await woken(pacing, 1)
    pacing.done("tail")
    async with asyncio.timeout(60):
        await pacing.begin("tail")  # it was given up
    monkeypatch.setattr(rounds, "_BLOCKED_S", NEVER_S)
    pacing.done("tail")
    waiting = asyncio.create_task(blocked.wait())
    blocked.clear()
    async with asyncio.timeout(60):
        await pacing.begin("tail")
        await pacing.wake([blocked])
        pacing.done("tail")
        await pacing.begin("other")  # although it is not back
    assert await waiting


async def test_reader_that_was_blocked_is_waited_for_again_once_it_is_fast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if nobody else is woken with it."""
    monkeypatch.setattr(rounds, "_BLOCKED_S", 0.01)
    pacing = Rounds()
    [reader] = await woken(pacing, 1)
    pacing.done("tail")
    async with asyncio.timeout(60):
        await pacing.begin("tail")  # it was given up
    monkeypatch.setattr(rounds, "_BLOCKED_S", NEVER_S)
    pacing.done("tail")
    pacing.done(reader)
    for is_waited_for in (False, True):
        reader.clear()
        waiting = asyncio.create_task(reader.wait())
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await pacing.begin("tail")
        await pacing.wake([reader])
        pacing.done("tail")
        other = await begins(pacing)
        assert other.done() is not is_waited_for
        pacing.done("other")
        pacing.done(reader)
        await other
        pacing.done("other")
        assert await waiting


@pytest.mark.usefixtures("patient")
async def test_tails_that_wait_begin_together() -> None:
    pacing = Rounds()
    await woken(pacing, 0)
    tasks = [await begins(pacing) for _ in range(3)]
    assert not any(task.done() for task in tasks)
    pacing.done("tail")
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)


async def test_pause_after_a_round_leaves_most_of_the_loop_to_others() -> None:
    pacing = Rounds()
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    [subscription] = await woken(pacing, 1)
    task = await begins(pacing)
    await until(lambda: loop.time() > began_s + 0.02)
    pacing.done("tail")
    pacing.done(subscription)
    lasted_s = loop.time() - began_s
    async with asyncio.timeout(60):
        await task
    # Timers may fire a moment early.
    assert loop.time() - began_s > 0.9 * lasted_s + 0.9 * min(3 * 0.02, 0.25)


async def test_pause_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_MAX_PAUSE_S", 0.0)
    monkeypatch.setattr(rounds, "_PAUSE", NEVER_S)
    pacing = Rounds()
    await woken(pacing, 0)
    task = await begins(pacing)
    pacing.done("tail")
    async with asyncio.timeout(60):
        await task


@pytest.mark.usefixtures("patient")
async def test_log_without_an_end_leaves_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_PAUSE", NEVER_S**3)
    monkeypatch.setattr(rounds, "_MAX_PAUSE_S", NEVER_S)  # it would wait for itself
    notifier, pacing = Notifier(), Rounds()

    async def read(name: str, after: int, _committed: object) -> Numbers:
        await asyncio.sleep(0)
        return Numbers(before=after, after=after + 1, caught_up=name == "short")

    async def follow(follower: Subscription) -> None:
        while await follower.wait():
            follower.clear()
            pacing.done(follower)

    tails: Tails[str, int, Numbers] = Tails(
        notifier, pacing, topics=lambda name: [(name,)], read=read
    )
    followers = {name: Subscription() for name in ("endless", "short")}
    endless, short = (tails.join(name, follower) for name, follower in followers.items())
    following = [asyncio.create_task(follow(follower)) for follower in followers.values()]
    for tail in (endless, short):
        tail.begin_at(0)
    await until(lambda: len(notifier.topics()) == 2)
    notifier.notify([("endless",)])
    await until(lambda: endless.end is not None and endless.end > 3)
    notifier.notify([("short",)])
    await until(lambda: short.end == 1)
    for (name, follower), task in zip(followers.items(), following, strict=True):
        tails.leave(name, follower)
        task.cancel()

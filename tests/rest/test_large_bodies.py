"""Large bodies under way are bounded, whoever is slow to take them."""

from __future__ import annotations

import asyncio

import pytest

from stagecast.errors import StoreBusy
from stagecast.rest import large_bodies
from stagecast.rest.content import Body, Content
from stagecast.rest.large_bodies import LargeBodyBudget
from tests.conditions import until, with_more_time

SIZE = 1_000


async def make() -> Content:
    await asyncio.sleep(0)
    return Body().end(b"x" * SIZE)


@pytest.fixture(autouse=True)
def room_for_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_bodies, "_BYTES", 2 * SIZE)


async def test_no_more_is_made_than_there_is_room_for() -> None:
    """One goes beyond the bound, so that the largest of all is answered as well."""
    under_way = LargeBodyBudget()
    making = [asyncio.create_task(under_way.make(make)) for _ in range(5)]
    await until(lambda: sum(task.done() for task in making) == 3)
    for _ in range(20):
        await asyncio.sleep(0)
    done = [task for task in making if task.done()]
    assert len(done) == 3
    waiting = [task for task in making if task not in done]
    making.clear()
    for landed in (1, 2):
        done.pop()
        await until(lambda: sum(task.done() for task in waiting) == landed)  # noqa: B023 - awaited here


async def test_one_is_made_at_a_time() -> None:
    under_way, limit, now = LargeBodyBudget(), 0, 0

    async def count() -> Content:
        nonlocal limit, now
        now += 1
        limit = max(limit, now)
        content = await make()
        now -= 1
        return content

    for _ in range(2):
        await asyncio.gather(*(under_way.make(count) for _ in range(3)))
    assert limit == 1


async def test_who_finds_no_room_in_time_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(large_bodies, "_TIMEOUT_S", 0.01)
    under_way = LargeBodyBudget()
    slow = [await under_way.make(make) for _ in range(3)]
    with pytest.raises(StoreBusy) as caught:
        async with asyncio.timeout(60):
            await under_way.make(make)
    assert caught.value.retry_after_s > 0
    slow.pop()
    assert (await under_way.make(make)).size == SIZE


async def test_one_that_could_not_be_made_leaves_its_turn() -> None:
    async def fail() -> Content:
        raise LookupError

    under_way = LargeBodyBudget()
    with pytest.raises(LookupError):
        await under_way.make(fail)
    assert (await under_way.make(make)).size == SIZE


async def test_who_waits_for_its_turn_comes_to_it_however_many_are_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def wait_in_turn(timer_s: float) -> None:
        monkeypatch.setattr(large_bodies, "_TIMEOUT_S", timer_s)
        under_way = LargeBodyBudget()

        async def take_time() -> Content:
            await asyncio.sleep(timer_s / 2)
            return await make()

        async def take() -> int:
            return (await under_way.make(take_time)).size

        assert await asyncio.gather(*(take() for _ in range(6))) == [SIZE] * 6

    await with_more_time(wait_in_turn, 0.2)

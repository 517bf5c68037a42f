"""The memory of large bodies is bounded, however slow their clients are."""

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


async def test_large_bodies_stay_within_the_budget() -> None:
    """One may exceed the budget, so that even the largest can be sent."""
    budget = LargeBodyBudget()
    making = [asyncio.create_task(budget.make(make)) for _ in range(5)]
    await until(lambda: sum(task.done() for task in making) == 3)
    for _ in range(20):
        await asyncio.sleep(0)
    done = [task for task in making if task.done()]
    assert len(done) == 3
    waiting = [task for task in making if task not in done]
    making.clear()
    for finished in (1, 2):
        done.pop()
        await until(lambda: sum(task.done() for task in waiting) == finished)  # noqa: B023 - awaited here


async def test_one_body_is_made_at_a_time() -> None:
    budget, peak, active = LargeBodyBudget(), 0, 0

    async def count() -> Content:
        nonlocal peak, active
        active += 1
        peak = max(peak, active)
        content = await make()
        active -= 1
        return content

    for _ in range(2):
        await asyncio.gather(*(budget.make(count) for _ in range(3)))
    assert peak == 1


async def test_request_beyond_the_budget_times_out_with_a_retry_delay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(large_bodies, "_TIMEOUT_S", 0.01)
    budget = LargeBodyBudget()
    slow = [await budget.make(make) for _ in range(3)]
    with pytest.raises(StoreBusy) as caught:
        async with asyncio.timeout(60):
            await budget.make(make)
    assert caught.value.retry_after_s > 0
    slow.pop()
    assert (await budget.make(make)).size == SIZE


async def test_failed_body_frees_the_budget() -> None:
    async def fail() -> Content:
        raise LookupError

    budget = LargeBodyBudget()
    with pytest.raises(LookupError):
        await budget.make(fail)
    assert (await budget.make(make)).size == SIZE


async def test_queued_request_is_served_however_long_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def wait_in_turn(timer_s: float) -> None:
        monkeypatch.setattr(large_bodies, "_TIMEOUT_S", timer_s)
        budget = LargeBodyBudget()

        async def take_time() -> Content:
            await asyncio.sleep(timer_s / 2)
            return await make()

        async def take() -> int:
            return (await budget.make(take_time)).size

        assert await asyncio.gather(*(take() for _ in range(6))) == [SIZE] * 6

    await with_more_time(wait_in_turn, 0.2)

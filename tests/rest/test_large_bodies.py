"""The memory of large bodies is bounded, however slow their clients are."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from stagecast.errors import StoreBusy
from stagecast.rest import large_bodies
from stagecast.rest.content import Body, Content
from stagecast.rest.large_bodies import LargeBodies
from tests.conditions import until, with_more_time

SIZE = 1_000


async def make() -> Content:
    await asyncio.sleep(0)
    return Body().end(b"x" * SIZE)


@pytest.fixture(autouse=True)
def room_for_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_bodies, "_BYTES", 2 * SIZE)


class Client:
    """A request, whose body is being sent until it is told to go on."""

    def __init__(self, bodies: LargeBodies, key: str, head: int = 1) -> None:
        self.content: Content | None = None
        self.released = asyncio.Event()
        self.task = asyncio.create_task(self._get(bodies, key, head))

    async def _get(self, bodies: LargeBodies, key: str, head: int) -> None:
        async with bodies.shared(key, head, make) as self.content:
            await self.released.wait()

    async def leave(self) -> None:
        self.released.set()
        await self.task


async def test_large_bodies_stay_within_the_budget() -> None:
    """One may exceed the budget, so that even the largest can be sent."""
    bodies = LargeBodies()
    clients = [Client(bodies, f"{number}") for number in range(5)]
    served = [client for client in clients if client.content]
    while len(served) < 3:
        await asyncio.sleep(0)
        served = [client for client in clients if client.content]
    for _ in range(20):
        await asyncio.sleep(0)
    assert sum(client.content is not None for client in clients) == 3
    for number in (4, 5):
        await served.pop().leave()
        await until(lambda: sum(client.content is not None for client in clients) == number)  # noqa: B023 - awaited here
    for client in clients:
        await client.leave()
    assert "0" not in bodies


async def test_one_body_is_made_at_a_time() -> None:
    bodies, peak, active = LargeBodies(), 0, 0

    async def count() -> Content:
        nonlocal peak, active
        active += 1
        peak = max(peak, active)
        content = await make()
        active -= 1
        return content

    async def get(key: int) -> None:
        async with bodies.shared(key, 1, count):
            pass

    for _ in range(2):
        await asyncio.gather(*map(get, range(3)))
    assert peak == 1


async def test_request_beyond_the_budget_times_out_with_a_retry_delay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(large_bodies, "_TIMEOUT_S", 0.01)
    bodies = LargeBodies()
    async with contextlib.AsyncExitStack() as sending:
        for number in range(2):
            await sending.enter_async_context(bodies.shared(number, 1, make))
        async with bodies.shared("slow", 1, make):
            with pytest.raises(StoreBusy) as caught:
                async with asyncio.timeout(60), bodies.shared("late", 1, make):
                    pass
        assert caught.value.retry_after_s > 0
        async with bodies.shared("late", 1, make) as content:
            assert content.size == SIZE


async def test_failed_body_frees_the_budget_and_is_not_shared() -> None:
    async def fail() -> Content:
        raise LookupError

    bodies = LargeBodies()
    with pytest.raises(LookupError):
        async with bodies.shared("key", 1, fail):
            pass
    async with bodies.shared("key", 1, make) as content:
        assert content.size == SIZE


async def test_body_is_shared_while_it_is_sent_and_current() -> None:
    bodies = LargeBodies()
    first, same = Client(bodies, "key"), Client(bodies, "key")
    await until(lambda: first.content is not None and same.content is not None)
    assert first.content is same.content
    await first.leave()
    late, newer = Client(bodies, "key"), Client(bodies, "key", head=2)
    await until(lambda: late.content is not None and newer.content is not None)
    assert late.content is same.content, "it is still being sent"
    assert newer.content is not same.content
    for client in (same, late):
        await client.leave()
    assert "key" in bodies
    await newer.leave()
    assert "key" not in bodies


async def test_body_that_is_being_read_is_not_shared_after_a_change() -> None:
    """It may have been read before the change; one that waits will be read after it."""
    bodies, begun, released = LargeBodies(), 0, asyncio.Event()

    async def read() -> Content:
        nonlocal begun
        begun += 1
        await released.wait()
        return await make()

    async def get(head: int) -> Content:
        async with bodies.shared("key", head, read) as content:
            return content

    early = asyncio.create_task(get(1))
    await until(lambda: begun == 1)
    later = [asyncio.create_task(get(head)) for head in (2, 3)]
    released.set()
    [old, *new] = await asyncio.gather(early, *later)
    assert begun == 2
    assert new[0] is new[1]
    assert old is not new[0]


async def test_body_without_requests_is_not_made_further() -> None:
    """Otherwise they would pile up on a hanging disk."""
    bodies, cancelled = LargeBodies(), asyncio.Event()

    async def hang() -> Content:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    async def get() -> None:
        async with bodies.shared("key", 1, hang):
            pass

    waiting = [asyncio.create_task(get()) for _ in range(2)]
    await until(lambda: "key" in bodies)
    for task in waiting:
        assert not cancelled.is_set()
        task.cancel()
        await asyncio.wait((task,))
    async with asyncio.timeout(60):
        await cancelled.wait()
    assert "key" not in bodies


async def test_queued_request_is_served_however_long_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def wait_in_turn(timer_s: float) -> None:
        monkeypatch.setattr(large_bodies, "_TIMEOUT_S", timer_s)
        bodies = LargeBodies()

        async def take_time() -> Content:
            await asyncio.sleep(timer_s / 2)
            return await make()

        async def take(key: int) -> int:
            async with bodies.shared(key, 1, take_time) as content:
                return content.size

        assert await asyncio.gather(*map(take, range(6))) == [SIZE] * 6

    await with_more_time(wait_in_turn, 0.2)

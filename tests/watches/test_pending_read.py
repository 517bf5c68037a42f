"""A look at the store keeps nobody from being heard from."""

from __future__ import annotations

import asyncio

from stagecast.config import Config
from stagecast.errors import StoreBusy
from stagecast.watches.pending_read import PendingRead
from stagecast.watches.timers import WatchTimers


async def test_slow_read_continues_after_the_heartbeat(config: Config) -> None:
    look: PendingRead[int] = PendingRead()
    timers = WatchTimers(0.01, config)
    answered, begun = asyncio.Event(), 0

    async def read() -> int:
        nonlocal begun
        begun += 1
        await answered.wait()
        return 7

    for _ in range(3):
        assert await look.take(read, timers) is None
        assert look.pending
        assert look.unavailable
        assert timers.heartbeat_due
        timers.sent()
    answered.set()
    while (actual := await look.take(read, timers)) is None:
        pass
    assert (actual, begun) == (7, 1)
    assert not look.pending
    assert not look.unavailable


async def test_failed_read_is_followed_by_a_new_one(config: Config) -> None:
    look: PendingRead[int] = PendingRead()
    timers = WatchTimers(0.01, config)

    async def fail() -> int:
        raise StoreBusy("locked", retry_after_s=60)

    async def read() -> int:
        return 7

    assert await look.take(fail, timers) is None  # paused until the heartbeat, no longer
    assert look.unavailable
    assert not look.pending
    while (actual := await look.take(read, timers)) is None:
        pass
    assert actual == 7
    assert not look.unavailable


async def test_close_cancels_the_running_read(config: Config) -> None:
    look: PendingRead[int] = PendingRead()
    left = asyncio.Event()

    async def read() -> int:
        try:
            never: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            return await never
        finally:
            left.set()

    assert await look.take(read, WatchTimers(0.01, config)) is None
    look.close()
    async with asyncio.timeout(60):
        await left.wait()

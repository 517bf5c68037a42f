"""Reads of the store never delay a heartbeat."""

from __future__ import annotations

import asyncio

from stagecast.config import Config
from stagecast.errors import StoreBusy
from stagecast.watches.pending_read import PendingRead
from stagecast.watches.timers import WatchTimers


async def test_slow_read_continues_after_the_heartbeat(config: Config) -> None:
    pending_read: PendingRead[int] = PendingRead()
    timers = WatchTimers(0.01, config)
    answered, reads = asyncio.Event(), 0

    async def read() -> int:
        nonlocal reads
        reads += 1
        await answered.wait()
        return 7

    for _ in range(3):
        assert await pending_read.take(read, timers) is None
        assert pending_read.pending
        assert pending_read.unavailable
        assert timers.heartbeat_due
        timers.sent()
    answered.set()
    while (actual := await pending_read.take(read, timers)) is None:
        pass
    assert (actual, reads) == (7, 1)
    assert not pending_read.pending
    assert not pending_read.unavailable


async def test_failed_read_is_followed_by_a_new_one(config: Config) -> None:
    pending_read: PendingRead[int] = PendingRead()
    timers = WatchTimers(0.01, config)

    async def fail() -> int:
        raise StoreBusy("locked", retry_after_s=60)

    async def read() -> int:
        return 7

    assert await pending_read.take(fail, timers) is None  # paused until the heartbeat, no longer
    assert pending_read.unavailable
    assert not pending_read.pending
    while (actual := await pending_read.take(read, timers)) is None:
        pass
    assert actual == 7
    assert not pending_read.unavailable


async def test_close_cancels_the_running_read(config: Config) -> None:
    pending_read: PendingRead[int] = PendingRead()
    cancelled = asyncio.Event()

    async def read() -> int:
        try:
            never: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            return await never
        finally:
            cancelled.set()

    assert await pending_read.take(read, WatchTimers(0.01, config)) is None
    pending_read.close()
    async with asyncio.timeout(60):
        await cancelled.wait()

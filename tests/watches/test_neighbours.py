"""Whatever goes wrong while one looks at other processes' commits, everybody hears of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

import pytest

from stagecast.config import Config
from stagecast.errors import StoreBusy
from stagecast.feed import Feed
from stagecast.store import Reading
from stagecast.store.sqlite import SqliteStore
from stagecast.watches import Neighbours, neighbours
from tests.clock import Clock

T = TypeVar("T")


class Faulty(SqliteStore):
    """Cannot be read as long as there is a fault."""

    fault: Exception | None = None

    async def read(self, query: Callable[[Reading], T]) -> T:
        if self.fault is not None:
            raise self.fault
        return await super().read(query)


@pytest.mark.parametrize("fault", [StoreBusy("busy", retry_after_s=0.001), LookupError("a bug")])
async def test_everybody_hears_although_the_look_fails(
    config: Config,
    clock: Clock,
    dataset_id: str,
    fault: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An answer that is kept would be shown for ever if nobody rang its bell."""
    monkeypatch.setattr(neighbours, "_AFTER_FAULT_S", 0.001)
    feed, committed = Feed(), asyncio.Event()
    store = Faulty(config.db, clock=clock, on_commit=feed.ring, on_foreign_commit=committed.set)
    looking = asyncio.create_task(Neighbours(store, feed, committed).run())
    with feed.listen((dataset_id, "batch")) as bell:
        for store.fault in (fault, None):
            bell.clear()
            committed.set()
            assert await bell.wait(30)
            assert not looking.done()
    looking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await looking
    await store.close()

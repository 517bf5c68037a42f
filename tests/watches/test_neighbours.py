"""A look at what other processes wrote that fails is not the last one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from stagecast.config import Config
from stagecast.feed import Feed
from stagecast.store import Reading
from stagecast.store.sqlite import SqliteStore
from stagecast.watches import Neighbours, neighbours
from tests.clock import Clock

T = TypeVar("T")


class FailingStore(SqliteStore):
    """Fails the first read."""

    failed = False

    async def read(self, query: Callable[[Reading], T]) -> T:
        if not self.failed:
            self.failed = True
            raise LookupError("a bug")
        return await super().read(query)


async def test_look_that_failed_is_repeated(
    config: Config, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(neighbours, "_AFTER_FAULT_S", 0.01)
    feed, committed = Feed(), asyncio.Event()
    store = FailingStore(
        config.db, clock=clock, on_commit=feed.ring, on_foreign_commit=committed.set
    )
    looking = asyncio.create_task(Neighbours(store, feed, committed).run())
    with feed.listen(("dataset", "batch")) as bell:
        committed.set()
        assert await bell.wait(10)
    assert store.failed
    assert "a bug" in caplog.text
    looking.cancel()
    await asyncio.wait((looking,))
    await store.close()

"""Whether the server can do its work: a store that does not even refuse is none to work with."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from stagecast import readiness
from stagecast.config import Config
from stagecast.readiness import Readiness
from stagecast.store.sqlite import SqliteStore
from tests.clock import Clock
from tests.conditions import until


class Hanging(SqliteStore):
    """Hangs, for as long as it does, with whatever is written."""

    hangs = True

    async def probe(self) -> None:
        while self.hangs:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)


async def test_server_is_not_ready_while_its_store_hangs(
    config: Config,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(readiness, "_PROBE_S", 0.01)
    store = Hanging(
        config.db, clock=clock, on_commit=lambda _topics: None, on_foreign_commit=lambda: None
    )
    told = Readiness()
    assert not told.ready, "nobody has tried"
    told.gain()
    keeping = asyncio.create_task(told.keep(store, every_s=0.01))
    await until(lambda: not told.ready)
    assert "not ready: the store did not answer within 0.01 s" in caplog.messages
    store.hangs = False
    await until(lambda: told.ready)
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    await store.close()

"""Readiness: a server whose store hangs is not ready."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from stagecast.background import readiness
from stagecast.background.readiness import Readiness
from stagecast.config import Config
from stagecast.store.sqlite import SqliteStore
from tests.builders import ENCODER
from tests.clock import Clock
from tests.conditions import until
from tests.faults import hanging_reads, hanging_writes


@pytest.mark.parametrize("hanging", [hanging_writes, hanging_reads])
async def test_server_is_not_ready_while_its_store_hangs(
    config: Config,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hanging: Callable[[SqliteStore], Any],
) -> None:
    monkeypatch.setattr(readiness, "_PROBE_S", 0.1)
    store = SqliteStore(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=lambda _topics: None,
        on_foreign_commit=lambda: None,
    )
    state = Readiness()
    assert not state.ready, "not probed yet"
    state.gain()
    async with hanging(store):
        probing = asyncio.create_task(state.run(store, every_s=0.01))
        await until(lambda: not state.ready)
        assert "not ready: the store did not answer within 0.1 s" in caplog.messages
    await until(lambda: state.ready)
    probing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await probing
    await store.close()

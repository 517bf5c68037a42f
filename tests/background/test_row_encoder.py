"""Rows of another release are encoded after the start, in steps, despite faults."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator

import pytest
from sqlite_utils.utils import sqlite3

from stagecast.background import row_encoder
from stagecast.background.row_encoder import RowEncoder
from stagecast.config import Config
from stagecast.store.sqlite import connection
from tests.clock import Clock
from tests.conditions import until
from tests.store.counting import CountingStore
from tests.store.encoded_rows import left_to_encode
from tests.store.test_migrations import FILES


@pytest.fixture
def config(config: Config) -> Config:
    """Settings of a server on a copy of a file of an earlier release."""
    shutil.copy(FILES / "main_path.sqlite", config.db)
    connection.open_writer(config.db).close()
    assert left_to_encode(config.db) > 20
    return config


@contextlib.asynccontextmanager
async def encoding(config: Config, clock: Clock) -> AsyncIterator[CountingStore]:
    """Run the encoder in the block."""
    store = CountingStore(
        config.db,
        clock=clock,
        on_commit=lambda _: None,
        on_foreign_commit=lambda: None,
    )
    task = asyncio.create_task(RowEncoder(store).run())
    yield store
    task.cancel()
    await asyncio.wait((task,))
    await store.close()


async def test_encoding_continues_after_a_restart(
    config: Config, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_encoder, "_ROWS", 3)
    left = [left_to_encode(config.db)]
    while left[-1]:
        async with encoding(config, clock):
            await until(lambda: left_to_encode(config.db) < left[-1])
        left.append(left_to_encode(config.db))
    assert left[1] > 0, "it took more than one start"


async def test_encoding_continues_after_a_fault(
    config: Config, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_MS", 10)
    with contextlib.closing(sqlite3.connect(config.db, isolation_level=None)) as other:
        async with encoding(config, clock):
            other.execute("BEGIN IMMEDIATE")  # before its first run
            await until(lambda: "cannot encode rows of another release" in caplog.text)
            other.execute("ROLLBACK")
            await until(lambda: not left_to_encode(config.db))


async def test_rows_that_another_release_writes_later_are_encoded(
    config: Config, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_encoder, "_EVERY_S", 0.01)
    async with encoding(config, clock):
        await until(lambda: not left_to_encode(config.db))
        with contextlib.closing(sqlite3.connect(config.db, isolation_level=None)) as other:
            other.execute("UPDATE documents SET revision = revision + 100")
        await until(lambda: not left_to_encode(config.db))


async def test_encoder_without_work_writes_once_a_minute(config: Config, clock: Clock) -> None:
    async with encoding(config, clock) as store:
        await until(lambda: not left_to_encode(config.db))
        await until(lambda: store.writes >= 2)
        for _ in range(100):  # another run would begin
            await asyncio.sleep(0)
        assert store.writes == 2

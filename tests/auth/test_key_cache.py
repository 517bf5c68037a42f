"""The keys in memory follow those of the file, despite faults."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from stagecast.auth import KeyCache, key_cache, revoke_key
from stagecast.auth.secret import digest_of
from stagecast.errors import StoreBusy
from stagecast.model import ALL, Scope, Visibility
from stagecast.store import ReadTransaction
from stagecast.store.sqlite import SqliteStore
from tests.access import create_key
from tests.clock import Clock
from tests.conditions import until
from tests.store.test_integrity import opened


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    async with opened(tmp_path / "s.db", clock) as store:
        yield store


class Watched:
    """A key cache that counts its changes.

    Attributes:
        committed: to be set when the store has changed.
        changes: the number of calls of `on_change`.
    """

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.committed = asyncio.Event()
        self.changes = 0
        self.key_cache = KeyCache(store, self.committed, on_change=self._count)

    def _count(self) -> None:
        self.changes += 1

    async def create(self) -> bytes:
        secret, _ = await create_key(
            self._store, name="", scopes=frozenset(Scope), visible=ALL, lives_us=None
        )
        return digest_of(secret)

    async def until_known(self, digest: bytes) -> None:
        await until(lambda: self.key_cache.find(digest) is not None)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the cache during the block."""
        running = asyncio.create_task(self.key_cache.run())
        try:
            yield
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


@pytest.fixture
def watched(store: SqliteStore) -> Watched:
    return Watched(store)


@pytest.mark.slow
async def test_key_cache_survives_read_errors(
    store: SqliteStore,
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors = [StoreBusy("disk full", retry_after_s=0.0), RuntimeError("a bug")]
    read = store.read

    async def fail_first(query: Callable[[ReadTransaction], Any], *, visible: Visibility) -> Any:
        if errors:
            raise errors.pop(0)
        return await read(query, visible=visible)

    monkeypatch.setattr(store, "read", fail_first)
    monkeypatch.setattr(key_cache, "_EVERY_S", 0.01)
    digest = await watched.create()
    with caplog.at_level(logging.WARNING):
        async with watched.running():
            await watched.until_known(digest)
    assert "cannot refresh keys: disk full" in caplog.text
    assert "a bug" in caplog.text


async def test_key_cache_refreshes_after_a_commit(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_cache, "_EVERY_S", 3_600.0)
    async with watched.running():
        for _ in range(2):
            digest = await watched.create()
            watched.committed.set()
            await watched.until_known(digest)
    assert watched.changes == 2


async def test_key_cache_finds_changes_without_a_commit_event(
    store: SqliteStore, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restored file may have the same version with other keys."""
    monkeypatch.setattr(key_cache, "_EVERY_S", 0.01)
    first, second = [await watched.create() for _ in range(2)]
    watched.committed.set()  # set before the start
    async with watched.running():
        await watched.until_known(second)
        await store.write(_delete_first_key, visible=ALL)
        await until(lambda: watched.key_cache.find(first) is None)
    assert watched.key_cache.find(second) is not None


async def test_key_cache_reports_each_change_once(store: SqliteStore, watched: Watched) -> None:
    digest = await watched.create()
    for _ in range(2):
        await watched.key_cache.refresh(whole=True)
    assert watched.changes == 1
    await revoke_key(store, "1")
    await watched.key_cache.refresh()
    assert watched.changes == 2
    assert watched.key_cache.used
    actual = watched.key_cache.find(digest)
    assert actual is not None
    assert actual.revoked_at is not None


def _delete_first_key(tx: Any) -> None:
    tx._connection.execute("DELETE FROM api_keys WHERE id = 1")

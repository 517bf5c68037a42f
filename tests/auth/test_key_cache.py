"""The keys in memory are those of the file whenever they are used, despite faults."""

from __future__ import annotations

import logging
import shutil
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stagecast.auth import Authenticator, KeyCache, add_key, make_new_key, revoke_key
from stagecast.auth.secret import digest_of
from stagecast.errors import CredentialsInvalid, CredentialsMissing, StoreBusy
from stagecast.model import ALL, Scope
from stagecast.store.sqlite import SqliteStore
from tests.access import create_key, make_key, revoke
from tests.clock import Clock
from tests.store.counting import CountingStore
from tests.store.test_integrity import opened
from tests.store.test_sqlite import plain


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


@pytest.fixture
async def store(db: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    async with opened(db, clock) as store:
        yield store


class Watched:
    """A key cache that counts its changes.

    Attributes:
        changes: the number of calls of `on_change`.
    """

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.changes = 0
        self.key_cache = KeyCache(store, on_change=self._count)

    def _count(self) -> None:
        self.changes += 1

    async def create(self) -> bytes:
        secret, _ = await create_key(
            self._store, name="", scopes=frozenset(Scope), visible=ALL, lives_us=None
        )
        return digest_of(secret)

    def knows(self, digest: bytes) -> bool:
        self.key_cache.refresh()
        return self.key_cache.find(digest) is not None


@pytest.fixture
def watched(store: SqliteStore) -> Watched:
    return Watched(store)


async def test_keys_stay_during_a_fault_and_are_read_after_it(
    store: SqliteStore,
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors = [StoreBusy("disk full", retry_after_s=0.0), RuntimeError("a bug")]
    read_now = store.read_now
    first = await watched.create()
    assert watched.knows(first)
    second = await watched.create()

    def fail_first(*args: Any, **kwargs: Any) -> Any:
        if errors:
            raise errors.pop(0)
        return read_now(*args, **kwargs)

    monkeypatch.setattr(store, "read_now", fail_first)
    with caplog.at_level(logging.WARNING):
        assert [watched.knows(first), watched.knows(second)] == [True, False]
        assert watched.knows(second)
    assert "cannot refresh keys: disk full" in caplog.text
    assert "a bug" in caplog.text


async def test_each_change_of_another_process_counts_from_the_next_call(
    db: Path, store: SqliteStore, clock: Clock
) -> None:
    authenticator = Authenticator(
        KeyCache(store, on_change=lambda: None), verifier=None, clock=clock, required=False
    )
    assert authenticator.admit(list, Scope.READ).principal.name == "anonymous"
    for _ in range(20):
        key = await make_key(db)
        with pytest.raises(CredentialsMissing):
            authenticator.admit(list, Scope.READ)
        assert authenticator.admit(partial(list, [key]), Scope.READ).principal.key_id is not None
        await revoke(db, key)
        with pytest.raises(CredentialsInvalid):
            authenticator.admit(partial(list, [key]), Scope.READ)


async def test_restored_copy_with_as_many_changes_is_noticed(
    db: Path, tmp_path: Path, clock: Clock
) -> None:
    copy = tmp_path / "copy.db"
    async with opened(db, clock) as store:
        await create_key(store, name="", scopes=frozenset(), visible=ALL, lives_us=None)
    shutil.copy(db, copy)
    async with opened(db, clock) as store, opened(copy, clock) as other:
        here, there = Watched(store), Watched(other)
        mine, theirs = await here.create(), await there.create()
        assert here.knows(mine)
        # Another program writes the copy into the open file.
        with plain(copy) as source, plain(db) as target:
            source.backup(target)
        assert here.knows(theirs)
        assert not here.knows(mine)


async def test_key_deleted_by_another_program_is_unknown(
    store: SqliteStore, watched: Watched
) -> None:
    first, second = [await watched.create() for _ in range(2)]
    assert watched.knows(first)
    await store.write(_delete_first_key, visible=ALL)
    assert not watched.knows(first)
    assert watched.knows(second)


async def test_keys_are_read_only_after_commits(db: Path, clock: Clock) -> None:
    store = CountingStore(db, clock=clock, on_commit=lambda _: None, on_foreign_commit=lambda: None)
    watched = Watched(store)
    digest = await watched.create()
    assert watched.knows(digest)
    before = store.reads
    for _ in range(5):
        assert watched.knows(digest)
    assert store.reads == before
    await store.close()


async def test_each_change_is_reported_once(store: SqliteStore, watched: Watched) -> None:
    secret, key = await make_new_key(
        store, name="", scopes=frozenset(Scope), visible=ALL, lives_us=None
    )
    await add_key(store, key)
    for _ in range(2):
        watched.key_cache.refresh()
    assert watched.changes == 1
    await revoke_key(store, "1")
    watched.key_cache.refresh()
    assert watched.changes == 2
    assert watched.key_cache.used
    actual = watched.key_cache.find(digest_of(secret))
    assert actual is not None
    assert actual.revoked_at is not None


def _delete_first_key(tx: Any) -> None:
    tx._connection.execute("DELETE FROM api_keys WHERE id = 1")

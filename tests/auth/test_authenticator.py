"""Choice among several credentials, and checks of running calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stagecast.auth import Authenticator, KeyCache, revoke_key
from stagecast.errors import CredentialsError, CredentialsExpired, CredentialsInvalid, ScopeMissing
from stagecast.model import ALL, Scope
from stagecast.store.sqlite import SqliteStore
from tests.access import create_key
from tests.auth.test_key_cache import Watched
from tests.clock import Clock
from tests.store.test_integrity import opened


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    async with opened(tmp_path / "s.db", clock) as store:
        yield store


@pytest.fixture
def key_cache(store: SqliteStore) -> KeyCache:
    return Watched(store).key_cache


@pytest.fixture
def authenticator(key_cache: KeyCache, clock: Clock) -> Authenticator:
    return Authenticator(key_cache, verifier=None, clock=clock, required=False)


async def make(store: SqliteStore, scope: Scope, *, lives_us: int | None = None) -> str:
    secret, _ = await create_key(
        store, name="", scopes=frozenset({scope}), visible=ALL, lives_us=lives_us
    )
    return secret


async def test_first_valid_credential_decides_or_else_the_first_error(
    store: SqliteStore, key_cache: KeyCache, authenticator: Authenticator, clock: Clock
) -> None:
    good, other = [await make(store, Scope.READ) for _ in range(2)]
    reporter = await make(store, Scope.REPORT)
    ended = await make(store, Scope.READ, lives_us=1)
    clock.advance(1)
    key_cache.refresh()
    for credentials, expected in (
        ((ended, "unknown"), CredentialsExpired),
        (("unknown", ended), CredentialsInvalid),
        (("unknown", reporter, ended), ScopeMissing),  # a known caller gets the better error
    ):
        with pytest.raises((CredentialsError, ScopeMissing)) as caught:
            authenticator.admit(partial(list, credentials), Scope.READ)
        assert type(caught.value) is expected
    bad = ("unknown", reporter, ended)
    names = [
        authenticator.admit(partial(list, credentials), Scope.READ).principal.identity
        for credentials in ((good, other), (other, good), (*bad, good, other))
    ]
    assert names == ["key 1", "key 2", "key 1"]


@pytest.mark.parametrize("how", ["revoked", "gone"])
async def test_caller_with_a_revoked_or_deleted_key_is_refused(
    store: SqliteStore, key_cache: KeyCache, authenticator: Authenticator, how: str
) -> None:
    """A key disappears when another file, or other rows, replace it."""
    key = await make(store, Scope.READ)
    key_cache.refresh()
    caller = authenticator.admit(partial(list, [key]), Scope.READ)
    caller.check()
    if how == "revoked":
        await revoke_key(store, "1")
    else:
        await store.write(_delete_all_keys, visible=ALL)
    key_cache.refresh()
    with pytest.raises(CredentialsInvalid):
        caller.check()


def _delete_all_keys(tx: Any) -> None:
    tx._connection.execute("DELETE FROM api_keys")

"""Keys for tests, and an authenticator that requires none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from stagecast.app import opened_store, wall_clock
from stagecast.auth import (
    Authenticator,
    KeyCache,
    add_key,
    make_new_key,
    prefix_of,
    revoke_key,
)
from stagecast.model import ANONYMOUS, ApiKey, Caller, Scope, Visibility
from stagecast.store import Store
from tests.clock import Clock

ANY_CALLER = Caller(principal=ANONYMOUS)


def open_authenticator(store: Store) -> Authenticator:
    """Return an authenticator that requires no credentials."""
    key_cache = KeyCache(store, on_change=lambda: None)
    return Authenticator(key_cache, verifier=None, clock=Clock(), required=False)


async def create_key(
    store: Store, *, name: str, scopes: frozenset[Scope], visible: Visibility, lives_us: int | None
) -> tuple[str, ApiKey]:
    """Make a key, and return it with its record in the store."""
    secret, key = await make_new_key(
        store, name=name, scopes=scopes, visible=visible, lives_us=lives_us
    )
    return secret, await add_key(store, key)


async def make_key(
    db: Path,
    *scopes: Scope,
    datasets: Iterable[str] | None = None,
    name: str = "",
    lives_s: float | None = None,
    clock: Callable[[], int] = wall_clock,
) -> str:
    """Make and return a key as another process would, with all scopes by default."""
    async with opened_store(db, clock=clock) as store:
        key, _ = await create_key(
            store,
            name=name,
            scopes=frozenset(scopes or Scope),
            visible=Visibility(None if datasets is None else frozenset(datasets)),
            lives_us=None if lives_s is None else round(lives_s * 1_000_000),
        )
    return key


async def revoke(db: Path, key: str) -> None:
    """Revoke a key as another process would."""
    async with opened_store(db) as store:
        assert await revoke_key(store, prefix_of(key) or "")

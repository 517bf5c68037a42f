"""What an administrator does with keys: make, list and revoke them, in any process on the file."""

from __future__ import annotations

from collections.abc import Sequence

from stagecast.auth.secret import digest_of, make_key, prefix_of
from stagecast.model import ApiKey, NewKey, Scope, Sight
from stagecast.store import Store, Writing


async def create_key(
    store: Store, *, name: str, scopes: frozenset[Scope], sight: Sight, lives_us: int | None
) -> tuple[str, ApiKey]:
    """Make a key that ends after a time, or never.

    Returns:
        The key itself, which is kept nowhere, and what is kept of it.
    """
    secret = make_key()

    def add(tx: Writing) -> ApiKey:
        return tx.add_key(
            NewKey(
                prefix=prefix_of(secret) or "",
                digest=digest_of(secret),
                name=name,
                scopes=scopes,
                sight=sight,
                expires_at=None if lives_us is None else tx.now + lives_us,
            )
        )

    return secret, await store.write(add)


async def list_keys(store: Store) -> Sequence[ApiKey]:
    """Return all keys, the oldest first; also those that were revoked or have expired."""
    return await store.read(lambda tx: tx.list_keys())


async def revoke_key(store: Store, named: str) -> ApiKey | None:
    """Revoke the key with a prefix, with or without `stagecast_`, or with an id.

    Returns:
        What it was before; `None` if there is no such key.
    """

    def revoke(tx: Writing) -> ApiKey | None:
        for key in tx.list_keys():
            if named in (key.prefix, key.prefix.removeprefix("stagecast_"), str(key.id)):
                tx.revoke_key(key)
                return key
        return None

    return await store.write(revoke)

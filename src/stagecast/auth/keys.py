"""Administration of keys: make and revoke them, in any process on the file."""

from __future__ import annotations

from stagecast.auth.secret import digest_of, make_key, prefix_of
from stagecast.model import ALL, ApiKey, NewKey, Scope, Visibility
from stagecast.store import Store, WriteTransaction


async def make_new_key(
    store: Store,
    *,
    name: str,
    scopes: frozenset[Scope],
    visible: Visibility,
    lives_us: int | None,
) -> tuple[str, NewKey]:
    """Return a new key, which expires after `lives_us` or never, and its record for `add_key`.

    Raises:
        StoreBusy: the store cannot be written, so `add_key` would fail.
    """
    secret = make_key()
    now = await store.write(lambda tx: tx.now, visible=ALL)
    return secret, NewKey(
        prefix=prefix_of(secret) or "",
        digest=digest_of(secret),
        name=name,
        scopes=scopes,
        visible=visible,
        expires_at=None if lives_us is None else now + lives_us,
    )


async def add_key(store: Store, key: NewKey) -> ApiKey:
    """Make a key valid. After the first one, credentials are required for good."""
    return await store.write(lambda tx: tx.add_key(key), visible=ALL)


async def revoke_key(store: Store, prefix_or_id: str) -> ApiKey | None:
    """Revoke the key with a prefix, with or without `stagecast_`, or with an id.

    Returns:
        The key as it was before; `None` if there is no such key.
    """

    def revoke(tx: WriteTransaction) -> ApiKey | None:
        for key in tx.list_keys():
            if prefix_or_id in (key.prefix, key.prefix.removeprefix("stagecast_"), str(key.id)):
                tx.revoke_key(key)
                return key
        return None

    return await store.write(revoke, visible=ALL)

"""Contract of stores: API keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stagecast.model import ALL, ApiKey, NewKey, Scope, Visibility
from stagecast.store import Store, WriteTransaction
from tests.clock import Clock


def key(number: int, **fields: Any) -> NewKey:
    """Return a key to add."""
    value: dict[str, Any] = {
        "prefix": f"stagecast_{number:08}",
        "digest": bytes([number]) * 32,
        "name": "",
        "scopes": frozenset(Scope),
        "visible": ALL,
        "expires_at": None,
    }
    return NewKey(**(value | fields))


class KeysContract:
    """Keys are stored unchanged, and revoked."""

    async def test_key_is_stored_unchanged(self, store: Store, clock: Clock) -> None:
        value = key(
            1,
            name="Grüße, 'quoted'",
            scopes=frozenset((Scope.READ, Scope.CONTROL)),
            visible=Visibility(frozenset(("b", "a"))),
            expires_at=clock() + 1,
        )
        added = await store.write(lambda tx: tx.add_key(value), visible=ALL)
        assert await store.read(lambda tx: tx.list_keys(), visible=ALL) == [added]
        assert added == ApiKey(
            id=added.id,
            created_at=clock(),
            revoked_at=None,
            **{name: getattr(value, name) for name in NewKey.__dataclass_fields__},
        )

    async def test_keys_are_listed_oldest_first(self, store: Store) -> None:
        def adding(number: int) -> Callable[[WriteTransaction], ApiKey]:
            return lambda tx: tx.add_key(key(number))

        added = [await store.write(adding(n), visible=ALL) for n in (3, 1, 2)]
        assert await store.read(lambda tx: tx.list_keys(), visible=ALL) == added

    async def test_key_is_revoked_once(self, store: Store, clock: Clock) -> None:
        added = await store.write(lambda tx: tx.add_key(key(1)), visible=ALL)
        other = await store.write(lambda tx: tx.add_key(key(2)), visible=ALL)
        clock.advance(5)
        revoked_at = clock()
        for _ in range(2):
            await store.write(lambda tx: tx.revoke_key(added), visible=ALL)
            clock.advance(5)
        first, second = await store.read(lambda tx: tx.list_keys(), visible=ALL)
        assert first.revoked_at == revoked_at
        assert second == other

    async def test_version_changes_with_every_change_of_a_key(self, store: Store) -> None:
        versions = [await store.read(lambda tx: tx.get_keys_version(), visible=ALL)]
        first = await store.write(lambda tx: tx.add_key(key(1)), visible=ALL)
        versions.append(await store.read(lambda tx: tx.get_keys_version(), visible=ALL))
        await store.write(lambda tx: tx.add_key(key(2)), visible=ALL)
        versions.append(await store.read(lambda tx: tx.get_keys_version(), visible=ALL))
        await store.write(lambda tx: tx.revoke_key(first), visible=ALL)
        versions.append(await store.read(lambda tx: tx.get_keys_version(), visible=ALL))
        assert len(set(versions)) == 4
        assert await store.read(lambda tx: tx.get_keys_version(), visible=ALL) == versions[-1]

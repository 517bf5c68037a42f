"""What every store must do with keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stagecast.model import ApiKey, NewKey, Scope
from stagecast.store import Store, Writing
from tests.clock import Clock


def key(number: int, **fields: Any) -> NewKey:
    """Return a key to keep."""
    given: dict[str, Any] = {
        "prefix": f"stagecast_{number:08}",
        "digest": bytes([number]) * 32,
        "name": "",
        "scopes": frozenset(Scope),
        "sight": None,
        "expires_at": None,
    }
    return NewKey(**(given | fields))


class KeysContract:
    """Keys are kept as they were given, and end by being revoked."""

    async def test_key_is_kept_as_it_was_given(self, store: Store, clock: Clock) -> None:
        given = key(
            1,
            name="Grüße, 'quoted'",
            scopes=frozenset((Scope.READ, Scope.CONTROL)),
            sight=frozenset(("b", "a")),
            expires_at=clock() + 1,
        )
        added = await store.write(lambda tx: tx.add_key(given))
        assert await store.read(lambda tx: tx.list_keys()) == [added]
        assert added == ApiKey(
            id=added.id,
            created_at=clock(),
            revoked_at=None,
            **{name: getattr(given, name) for name in NewKey.__dataclass_fields__},
        )

    async def test_keys_are_listed_the_oldest_first(self, store: Store) -> None:
        def adding(number: int) -> Callable[[Writing], ApiKey]:
            return lambda tx: tx.add_key(key(number))

        added = [await store.write(adding(n)) for n in (3, 1, 2)]
        assert await store.read(lambda tx: tx.list_keys()) == added

    async def test_key_is_revoked_once(self, store: Store, clock: Clock) -> None:
        added = await store.write(lambda tx: tx.add_key(key(1)))
        other = await store.write(lambda tx: tx.add_key(key(2)))
        clock.advance(5)
        revoked_at = clock()
        for _ in range(2):
            await store.write(lambda tx: tx.revoke_key(added))
            clock.advance(5)
        first, second = await store.read(lambda tx: tx.list_keys())
        assert first.revoked_at == revoked_at
        assert second == other

    async def test_serial_changes_with_every_change_of_a_key(self, store: Store) -> None:
        serials = [await store.read(lambda tx: tx.get_keys_serial())]
        first = await store.write(lambda tx: tx.add_key(key(1)))
        serials.append(await store.read(lambda tx: tx.get_keys_serial()))
        await store.write(lambda tx: tx.add_key(key(2)))
        serials.append(await store.read(lambda tx: tx.get_keys_serial()))
        await store.write(lambda tx: tx.revoke_key(first))
        serials.append(await store.read(lambda tx: tx.get_keys_serial()))
        assert serials == sorted(set(serials))
        assert len(serials) == 4
        assert await store.read(lambda tx: tx.get_keys_serial()) == serials[-1]

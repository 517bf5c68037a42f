"""A key is revoked by its whole prefix or id only."""

from __future__ import annotations

from pathlib import Path

import pytest

from stagecast.auth import revoke_key
from stagecast.model import ALL, Scope
from tests.access import create_key
from tests.clock import Clock
from tests.store.test_integrity import opened


@pytest.mark.parametrize("part", ["", "stagecast_", "stagecast", "{0:.17}", "{0:.19}", "11", "0"])
async def test_partial_prefix_revokes_nothing(tmp_path: Path, clock: Clock, part: str) -> None:
    async with opened(tmp_path / "s.db", clock) as store:
        secret, _ = await create_key(
            store, name="", scopes=frozenset(Scope), visible=ALL, lives_us=None
        )
        assert await revoke_key(store, part.format(secret)) is None
        assert [
            key.revoked_at for key in await store.read(lambda tx: tx.list_keys(), visible=ALL)
        ] == [None]

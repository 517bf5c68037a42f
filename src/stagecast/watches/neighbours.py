"""Other processes on the same file: whose commits ring the bells of this one.

All that is known of such a commit is that there was one. One query asks how far every batch is that
somebody here listens to, and only the bells of those that moved are rung.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from stagecast.errors import UnavailableError
from stagecast.feed import Feed
from stagecast.store import BatchName, Head, Reading, Store

_AFTER_FAULT_S = 1.0

_log = logging.getLogger(__name__)


class Neighbours:
    """Looks at the store after every commit of another process.

    Args:
        store: what to look at.
        feed: whose bells to ring.
        committed: set when another process has written.
    """

    def __init__(self, store: Store, feed: Feed, committed: asyncio.Event) -> None:
        self._store = store
        self._feed = feed
        self._committed = committed
        self._heads: dict[BatchName, Head] = {}

    async def run(self) -> None:
        """Ring what others have changed, until cancelled."""
        while True:
            await self._committed.wait()
            self._committed.clear()
            try:
                await self._look()
            except UnavailableError as error:
                _log.warning("cannot see what another process wrote: %s", error)
                await self._look_again(error.retry_after_s)
            except Exception:
                # Were this to end, what is kept in memory would be shown for ever.
                _log.exception("cannot see what another process wrote")
                await self._look_again(_AFTER_FAULT_S)

    async def _look_again(self, after_s: float) -> None:
        """Let everybody look for themselves, and look again later."""
        self._feed.ring_only(self._feed.topics())
        await asyncio.sleep(after_s)
        self._committed.set()

    async def _look(self) -> None:
        topics = self._feed.topics()
        names = [(topic[0], topic[1]) for topic in topics if len(topic) == 2]
        before, self._heads = self._heads, await self._find_heads(names)
        self._feed.ring_only(name for name in names if self._heads.get(name) != before.get(name, 0))
        # What listens to datasets reads only what changed.
        self._feed.ring_only(topic for topic in topics if len(topic) < 2)

    async def _find_heads(self, names: Collection[BatchName]) -> dict[BatchName, Head]:
        if not names:
            return {}

        def find(tx: Reading) -> dict[BatchName, Head]:
            return tx.find_heads(names)

        return await self._store.read(find)

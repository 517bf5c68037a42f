"""Other processes on the same file: whose commits ring the bells of this one.

All that is known of such a commit is that there was one. One read asks how far every batch is that
somebody here listens to, and which datasets have changed; only the bells of those are rung.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from stagecast.chores import Chore
from stagecast.feed import Feed
from stagecast.model import ALL
from stagecast.store import BatchName, DatasetNews, Head, Reading, Store

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
        self._serial: int | None = None

    async def run(self) -> None:
        """Ring what others have changed, until cancelled."""
        chore = Chore(_log, "see what another process wrote")
        while True:
            await self._committed.wait()
            self._committed.clear()
            again_s = await chore.attempt(self.look)
            if again_s is not None:
                await self._look_again(again_s)

    async def look(self) -> None:
        """Ring what has changed since the last look; the first one rings everything."""
        topics = self._feed.topics()
        names = [(topic[0], topic[1]) for topic in topics if len(topic) == 2]
        before = self._heads
        self._heads, news = await self._store.read(partial(_read, names, self._serial), visible=ALL)
        self._feed.ring_only(name for name in names if self._heads.get(name) != before.get(name, 0))
        # Nothing is known of what was before, or it was of another history.
        if self._serial is None or news.serial < self._serial:
            self._feed.ring_only(topic for topic in topics if len(topic) < 2)
        elif news.serial != self._serial:
            changed = (*(dataset.dataset_id for dataset in news.changed), *news.removed)
            self._feed.ring_only([(), *((dataset_id,) for dataset_id in changed)])
        self._serial = news.serial

    async def _look_again(self, after_s: float) -> None:
        """Let everybody look for themselves, and look again later."""
        self._feed.ring_only(self._feed.topics())
        await asyncio.sleep(after_s)
        self._committed.set()


def _read(
    names: Sequence[BatchName], serial: int | None, tx: Reading
) -> tuple[dict[BatchName, Head], DatasetNews]:
    """Return how far batches are, and which datasets have changed since a serial, if any."""
    heads = tx.find_heads(names) if names else {}
    of_datasets = None if serial is not None else ()
    return heads, tx.find_dataset_news(of_datasets, after_serial=serial or 0)

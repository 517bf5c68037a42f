"""Waiting for the end of a batch: a long poll."""

from __future__ import annotations

import asyncio

from stagecast.config import Config
from stagecast.errors import BatchDeleted
from stagecast.feed import Feed
from stagecast.model import Batch, batch_state
from stagecast.store import Store, get_batch
from stagecast.watches.patience import check_open


class Waits:
    """Serves those who wait."""

    def __init__(self, store: Store, feed: Feed, *, config: Config) -> None:
        self._store = store
        self._feed = feed
        self._config = config

    async def wait(self, dataset_id: str, batch_id: str, timeout_s: float) -> tuple[Batch, bool]:
        """Return the batch once it is terminal, and True; or as it is when the time is over.

        It lives no longer than a watch: then the time is over as well.

        Raises:
            BatchNotFound: there is no such batch.
            BatchDeleted: the batch went meanwhile.
            Draining: wait again.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + min(timeout_s, self._config.watch_life_s)
        key = None
        with self._feed.listen((dataset_id, batch_id)) as bell:
            while True:
                bell.clear()
                batch = await self._store.read(lambda tx: get_batch(tx, dataset_id, batch_id))
                key = key or batch.key
                if batch.key != key:
                    raise BatchDeleted(dataset_id, batch_id)
                done = batch_state(batch).terminal
                if done or loop.time() >= end_s:
                    return batch, done
                check_open(self._feed)
                await bell.wait(end_s - loop.time())

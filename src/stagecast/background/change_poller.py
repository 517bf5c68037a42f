"""Other processes on the same file: whose commits ring the bells of this one.

All that is known of such a commit is that there was one. One read asks how far every batch is that
somebody here listens to, and which datasets have changed; only the bells of those are rung.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from stagecast.model import ALL
from stagecast.notifier import Notifier
from stagecast.periodic import PeriodicTask
from stagecast.store import BatchName, DatasetNews, Head, ReadTransaction, Store

_log = logging.getLogger(__name__)


class ChangePoller:
    """Looks at the store after every commit of another process.

    Args:
        store: what to look at.
        feed: whose bells to ring.
        committed: set when another process has written.
    """

    def __init__(self, store: Store, notifier: Notifier, committed: asyncio.Event) -> None:
        self._store = store
        self._notifier = notifier
        self._committed = committed
        self._heads: dict[BatchName, Head] = {}
        self._change_seq: int | None = None

    async def run(self) -> None:
        """Ring what others have changed, until cancelled."""
        task = PeriodicTask(_log, "see what another process wrote")
        while True:
            await self._committed.wait()
            self._committed.clear()
            again_s = await task.attempt(self.poll)
            if again_s is not None:
                await self._poll_again(again_s)

    async def poll(self) -> None:
        """Ring what has changed since the last look; the first one rings everything."""
        topics = self._notifier.topics()
        names = [(topic[0], topic[1]) for topic in topics if len(topic) == 2]
        before = self._heads
        self._heads, news = await self._store.read(
            partial(_read, names, self._change_seq), visible=ALL
        )
        self._notifier.notify_only(
            name for name in names if self._heads.get(name) != before.get(name, 0)
        )
        # Nothing is known of what was before, or it was of another history.
        if self._change_seq is None or news.change_seq < self._change_seq:
            self._notifier.notify_only(topic for topic in topics if len(topic) < 2)
        elif news.change_seq != self._change_seq:
            changed = (*(dataset.dataset_id for dataset in news.changed), *news.removed)
            self._notifier.notify_only([(), *((dataset_id,) for dataset_id in changed)])
        self._change_seq = news.change_seq

    async def _poll_again(self, after_s: float) -> None:
        """Let everybody look for themselves, and look again later."""
        self._notifier.notify_only(self._notifier.topics())
        await asyncio.sleep(after_s)
        self._committed.set()


def _read(
    names: Sequence[BatchName], change_seq: int | None, tx: ReadTransaction
) -> tuple[dict[BatchName, Head], DatasetNews]:
    """Return how far batches are, and which datasets have changed since a serial, if any."""
    heads = tx.find_heads(names) if names else {}
    of_datasets = None if change_seq is not None else ()
    return heads, tx.find_dataset_news(of_datasets, after_seq=change_seq or 0)

"""Notifications for commits of other processes on the same file.

Of such a commit only its occurrence is known. One read gets the heads of all batches that have
subscriptions here and the datasets that changed; only the topics that changed are notified.
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
    """Polls the store after every commit of another process.

    Args:
        store: the store to poll.
        notifier: notified of the changes.
        committed: set when another process has committed.
    """

    def __init__(self, store: Store, notifier: Notifier, committed: asyncio.Event) -> None:
        self._store = store
        self._notifier = notifier
        self._committed = committed
        self._heads: dict[BatchName, Head] = {}
        self._change_seq: int | None = None

    async def run(self) -> None:
        """Notify of the changes of other processes, until cancelled."""
        task = PeriodicTask(_log, "poll for changes of other processes")
        while True:
            await self._committed.wait()
            self._committed.clear()
            retry_after_s = await task.attempt(self.poll)
            if retry_after_s is not None:
                await self._poll_again(retry_after_s)

    async def poll(self) -> None:
        """Notify what changed since the last poll; the first poll notifies every topic."""
        topics = self._notifier.topics()
        names = [(topic[0], topic[1]) for topic in topics if len(topic) == 2]
        before = self._heads
        self._heads, news = await self._store.read(
            partial(_read, names, self._change_seq), visible=ALL
        )
        self._notifier.notify_only(
            name for name in names if self._heads.get(name) != before.get(name, 0)
        )
        # The first poll, or an older copy of the store was restored.
        if self._change_seq is None or news.change_seq < self._change_seq:
            self._notifier.notify_only(topic for topic in topics if len(topic) < 2)
        elif news.change_seq != self._change_seq:
            changed = (*(dataset.dataset_id for dataset in news.changed), *news.removed)
            self._notifier.notify_only([(), *((dataset_id,) for dataset_id in changed)])
        self._change_seq = news.change_seq

    async def _poll_again(self, after_s: float) -> None:
        """Notify everything now, and poll again later."""
        self._notifier.notify_only(self._notifier.topics())
        await asyncio.sleep(after_s)
        self._committed.set()


def _read(
    names: Sequence[BatchName], change_seq: int | None, tx: ReadTransaction
) -> tuple[dict[BatchName, Head], DatasetNews]:
    """Return the heads of batches, and the datasets that changed after a change_seq, if any."""
    heads = tx.find_heads(names) if names else {}
    of_datasets = None if change_seq is not None else ()
    return heads, tx.find_dataset_news(of_datasets, after_seq=change_seq or 0)

"""Notifications for commits of other processes on the same file.

While nobody watches, nothing is polled: what this process remembers is compared with the store when
it is used. While somebody does, the store is asked 25 times a second whether anybody has committed.
Of a commit of another process only its occurrence is known: one read gets the heads of
all batches that have subscriptions here and the datasets that changed, and only those topics are
notified.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from stagecast.model import ALL
from stagecast.notifier import Notifier
from stagecast.periodic import PeriodicTask
from stagecast.store import BatchName, DatasetNews, Head, ReadTransaction, Store

# A wake-up costs an idle server more than what it does then, so it is as seldom as a push within
# 50 ms allows.
_EVERY_S = 0.04

_log = logging.getLogger(__name__)


class ChangePoller:
    """Polls the store after every commit of another process, while there are subscriptions.

    Args:
        store: the store to poll.
        notifier: notified of the changes.
        committed: set when another process has committed; see `Store.check_foreign_commits`.
        on_version: called with a new version of the store.
    """

    def __init__(
        self,
        store: Store,
        notifier: Notifier,
        committed: asyncio.Event,
        *,
        on_version: Callable[[int], None] = lambda _version: None,
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._committed = committed
        self._on_version = on_version
        self._version: int | None = None
        self._heads: dict[BatchName, Head] = {}
        self._change_seq: int | None = None

    async def run(self) -> None:
        """Notify of the changes of other processes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._check_versions())
            group.create_task(self._follow_commits())

    async def _check_versions(self) -> None:
        while True:
            await self._notifier.until_used()
            await self._check_while_used()

    async def _check_while_used(self) -> None:
        """Check the version until there are no subscriptions.

        With a timer of the loop: a wake-up of this task would cost a third more.
        """
        loop = asyncio.get_running_loop()
        unused = loop.create_future()
        timer: asyncio.Handle

        def check() -> None:
            nonlocal timer
            if not self._notifier.is_used:
                unused.set_result(None)
                return
            timer = loop.call_later(_EVERY_S, check)
            self._check_version()

        timer = loop.call_soon(check)
        try:
            await unused
        finally:
            timer.cancel()

    def _check_version(self) -> None:
        """Find out whether anybody has committed; which process it was, the store finds out."""
        version = self._store.version()
        if version != self._version:
            self._version = version
            self._on_version(version)
            self._store.check_foreign_commits()

    async def _follow_commits(self) -> None:
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
        if not topics:
            self._heads, self._change_seq = {}, None
            return
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

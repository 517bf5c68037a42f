"""Notifications for commits of other processes on the same file.

While nobody watches, nothing is polled: what this process remembers is compared with the store when
it is used. While somebody does, the store is asked 25 times a second whether anybody has committed.
Of a commit of another process only its occurrence is known: one read gets the heads of
all batches that have subscriptions here and the datasets that changed, and only those topics are
notified. Under load that is done once a round of pushing; what this process has committed itself
is known without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from stagecast.model import ALL
from stagecast.notifier import Notifier
from stagecast.periodic import PeriodicTask
from stagecast.store import (
    BatchName,
    Commits,
    Committed,
    DatasetNews,
    Head,
    ReadTransaction,
    Store,
    head_of,
)

# A wake-up costs an idle server more than what it does then, so it is as seldom as a push within
# 50 ms allows.
_EVERY_S = 0.04

_log = logging.getLogger(__name__)


class ChangePoller:
    """Polls the store after every commit of another process, while there are subscriptions.

    Args:
        notifier: notified of the changes.
        opened: waits until changes may be pushed.
    """

    def __init__(self, notifier: Notifier, *, opened: Callable[[], Awaitable[None]]) -> None:
        self._notifier = notifier
        self._opened = opened
        self._committed = asyncio.Event()  # by another process
        self._heads: dict[BatchName, Head] = {}
        self._change_seq: int | None = None

    def wake(self) -> None:
        """Poll soon: another process has committed; see `Store.check_foreign_commits`."""
        self._committed.set()

    def pass_on(self, commits: Commits) -> None:
        """Notify of what this process has committed."""
        for committed in commits.values():
            if committed is not None:
                self._note(committed)
        self._notifier.pass_on(commits)

    def _note(self, committed: Committed) -> None:
        """Remember the head of a batch, unless another process has changed the batch before."""
        batch = committed.batch
        name = (batch.dataset_id, batch.batch_id)
        before = (batch.key, committed.before[0], batch.progress_seq)
        if self._heads.get(name, ())[:3] == before:
            self._heads[name] = head_of(batch)

    async def run(
        self, store: Store, *, on_version: Callable[[int], None] = lambda _version: None
    ) -> None:
        """Notify of the changes of other processes, until cancelled.

        Args:
            store: the store to poll.
            on_version: called with a new version of the store.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._check_versions(store, on_version))
            group.create_task(self._follow_commits(store))

    async def _check_versions(self, store: Store, on_version: Callable[[int], None]) -> None:
        version: int | None = None

        def check() -> None:
            """Find out whether anybody has committed; which process it was, the store finds out."""
            nonlocal version
            known, version = version, store.version()
            if version != known:
                on_version(version)
                store.check_foreign_commits()

        while True:
            await self._notifier.until_used()
            await self._repeat_while_used(check)

    async def _repeat_while_used(self, check: Callable[[], None]) -> None:
        """Check until there are no subscriptions.

        With a timer of the loop: a wake-up of this task would cost a third more.
        """
        loop = asyncio.get_running_loop()
        unused = loop.create_future()
        timer: asyncio.Handle

        def repeat() -> None:
            nonlocal timer
            if not self._notifier.is_used:
                unused.set_result(None)
                return
            timer = loop.call_later(_EVERY_S, repeat)
            check()

        timer = loop.call_soon(repeat)
        try:
            await unused
        finally:
            timer.cancel()

    async def _follow_commits(self, store: Store) -> None:
        task = PeriodicTask(_log, "poll for changes of other processes")
        while True:
            await self._committed.wait()
            await self._opened()
            self._committed.clear()
            retry_after_s = await task.attempt(partial(self.poll, store))
            if retry_after_s is not None:
                await self._poll_again(retry_after_s)

    async def poll(self, store: Store) -> None:
        """Notify what changed since the last poll; the first poll notifies every topic."""
        topics = self._notifier.topics()
        if not topics:
            self._heads, self._change_seq = {}, None
            return
        names = [(topic[0], topic[1]) for topic in topics if len(topic) == 2]
        before = self._heads
        self._heads, news = await store.read(partial(_read, names, self._change_seq), visible=ALL)
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

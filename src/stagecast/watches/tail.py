"""The end of a batch's log, read and encoded once for all its watchers.

A tail subscribes to the notifier on behalf of its followers. It keeps the last pages only; a
follower further behind reads the log itself until it reaches the tail. A tail reads without
visibility: each follower has read the batch with its own before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from functools import partial

from stagecast.errors import BatchDeleted, TokenExpired, UnavailableError
from stagecast.model import ALL
from stagecast.notifier import Notifier, Subscription
from stagecast.store import BatchName, ReadTransaction, Store
from stagecast.watches.log import Cursor, Encode, Page, end_cursor, read_page

_BYTES = 2 << 20  # of pages in a tail; one page may be larger
_PAGES = 256  # in a tail
_MAX_AGE_S = 2.0  # of pages: with any number of batches, only the newest writes stay in memory
_AFTER_FAULT_S = 1.0

_log = logging.getLogger(__name__)


class Tail:
    """The newest pages of one batch, as long as it has followers."""

    def __init__(
        self,
        name: BatchName,
        store: Store,
        notifier: Notifier,
        *,
        encode: Encode,
        throttle_s: float,
    ) -> None:
        self._name = name
        self._store = store
        self._notifier = notifier
        self._encode = encode
        self._throttle_s = throttle_s
        self._end: Cursor | None = None
        self._lost = False
        self._pages: deque[tuple[float, Page]] = deque()
        self._waiting: set[asyncio.Future[None]] = set()

    def find(self, cursor: Cursor, *, progress: bool) -> Page | None:
        """Return the page that continues from a cursor, if the tail reaches back to it."""
        # Newest first: most followers are up to date.
        for _, page in reversed(self._pages):
            before = page.before
            if before.revision <= cursor.revision and (
                not progress or before.progress_seq <= cursor.progress_seq
            ):
                continues = before.key == cursor.key and page.has_news_after(
                    cursor, progress=progress
                )
                return page if continues else None
        return None

    def has_passed(self, cursor: Cursor, *, progress: bool) -> bool:
        """Return whether the log has entries after a cursor, or the batch was deleted."""
        end = self._end
        if end is None:
            return self._lost
        return (
            end.key != cursor.key
            or end.revision > cursor.revision
            or (progress and end.progress_seq > cursor.progress_seq)
        )

    async def wait(self, until_s: float) -> None:
        """Wait for the next page, or until a time of the loop's clock."""
        loop = asyncio.get_running_loop()
        news: asyncio.Future[None] = loop.create_future()
        self._waiting.add(news)
        timer = loop.call_at(until_s, _wake, news)
        try:
            await news
        finally:
            timer.cancel()
            self._waiting.discard(news)

    async def run(self) -> None:
        """Read page after page until cancelled."""
        with self._notifier.subscribe(self._name) as subscription:
            while True:
                try:
                    await self._follow(subscription)
                except BatchDeleted:
                    self._forget()  # followers find out by their own reads
                    await subscription.wait()
                except TokenExpired:
                    self._forget()  # restart at the end of the log
                except UnavailableError as error:
                    await asyncio.sleep(error.retry_after_s)
                except Exception:
                    # Followers read for themselves at every heartbeat, and report the error.
                    _log.exception(
                        "cannot read the log of batch %s of dataset %s", *self._name[::-1]
                    )
                    await asyncio.sleep(_AFTER_FAULT_S)

    async def _follow(self, subscription: Subscription) -> None:
        loop = asyncio.get_running_loop()
        while True:
            subscription.clear()
            if self._notifier.closed:  # after the clear, which may have removed its notification
                self._notify()
            began_s = loop.time()
            if self._end is None:
                self._end = await self._store.read(partial(_find_end, name=self._name), visible=ALL)
                self._lost = False
                self._notify()
            page = await self._store.read(
                partial(
                    read_page,
                    name=self._name,
                    cursor=self._end,
                    progress=True,
                    encode=self._encode,
                ),
                visible=ALL,
            )
            if page.after != self._end:
                self._append(page)
                self._notify()
            if page.caught_up:
                if not await subscription.wait(_MAX_AGE_S):
                    self._pages.clear()
                    await subscription.wait()
                # A single event is sent at once; a burst shares messages.
                await asyncio.sleep(began_s + self._throttle_s - loop.time())

    def _append(self, page: Page) -> None:
        self._end = page.after
        now_s = asyncio.get_running_loop().time()
        while self._pages and self._pages[0][0] < now_s - _MAX_AGE_S:
            self._pages.popleft()
        self._pages.append((now_s, page))
        retained = sum(one.size for _, one in self._pages)
        while (retained > _BYTES and len(self._pages) > 1) or len(self._pages) > _PAGES:
            retained -= self._pages.popleft()[1].size

    def _forget(self) -> None:
        self._end = None
        self._lost = True
        self._pages.clear()
        self._notify()

    def _notify(self) -> None:
        for news in self._waiting:
            _wake(news)
        self._waiting.clear()


class Tails:
    """The tails of all batches watched on this server."""

    def __init__(
        self, store: Store, notifier: Notifier, *, encode: Encode, throttle_s: float
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._encode = encode
        self._throttle_s = throttle_s
        self._tails: dict[BatchName, tuple[Tail, asyncio.Task[None]]] = {}
        self._followers: dict[BatchName, int] = {}

    @contextlib.contextmanager
    def follow(self, name: BatchName) -> Iterator[Tail]:
        """Yield the tail of a batch, which runs as long as it has followers."""
        if name not in self._tails:
            tail = Tail(
                name, self._store, self._notifier, encode=self._encode, throttle_s=self._throttle_s
            )
            self._tails[name] = tail, asyncio.create_task(tail.run())
            self._followers[name] = 0
        tail, running = self._tails[name]
        self._followers[name] += 1
        try:
            yield tail
        finally:
            self._followers[name] -= 1
            if not self._followers[name]:
                running.cancel()
                del self._tails[name], self._followers[name]


def _find_end(tx: ReadTransaction, name: BatchName) -> Cursor:
    batch = tx.find_batch(*name)
    if batch is None:
        raise BatchDeleted(*name)
    return end_cursor(tx, batch)


def _wake(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)

"""The end of a batch's log, read and encoded once for all who watch it.

A tail listens to the feed in the place of its followers. It keeps the last pages only; a follower
who is further behind reads the log for itself, until it is within reach of the tail. It reads for
all: each follower has found the batch with its own visibility before.
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
from stagecast.watches.log import Cursor, Encode, Page, end_of, read_page

_BYTES = 2 << 20  # of pages in a tail; one page may be larger
_PAGES = 256  # in a tail
_YOUNG_S = 2.0  # older ones go: of however many batches, there is no more than was just written
_AFTER_FAULT_S = 1.0

_log = logging.getLogger(__name__)


class Tail:
    """The newest pages of one batch, for as long as somebody follows it."""

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
        """Return the page that goes on from a cursor, if the tail reaches back to it."""
        # From the newest, which is what those want who are in step.
        for _, page in reversed(self._pages):
            before = page.before
            if before.revision <= cursor.revision and (
                not progress or before.progress_seq <= cursor.progress_seq
            ):
                goes_on = before.key == cursor.key and page.concerns(cursor, progress=progress)
                return page if goes_on else None
        return None

    def has_passed(self, cursor: Cursor, *, progress: bool) -> bool:
        """Tell whether there is something after a cursor, or the batch is another or gone."""
        end = self._end
        if end is None:
            return self._lost
        return (
            end.key != cursor.key
            or end.revision > cursor.revision
            or (progress and end.progress_seq > cursor.progress_seq)
        )

    async def wait(self, until_s: float) -> None:
        """Wait for the next page, or until a time by the loop's clock."""
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
                    self._forget()  # whoever follows finds out by itself
                    await subscription.wait()
                except TokenExpired:
                    self._forget()  # and begin at the end, where all history is kept
                except UnavailableError as error:
                    await asyncio.sleep(error.retry_after_s)
                except Exception:
                    # Followers read for themselves at every heartbeat, and tell of it.
                    _log.exception("the tail of batch %s of dataset %s failed", *self._name[::-1])
                    await asyncio.sleep(_AFTER_FAULT_S)

    async def _follow(self, subscription: Subscription) -> None:
        loop = asyncio.get_running_loop()
        while True:
            subscription.clear()
            if self._notifier.closed:  # looked at behind the clear, which may have taken its ring
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
                if not await subscription.wait(_YOUNG_S):
                    self._pages.clear()
                    await subscription.wait()
                # A lone event finds the tick over and is sent at once; a burst shares messages.
                await asyncio.sleep(began_s + self._throttle_s - loop.time())

    def _append(self, page: Page) -> None:
        self._end = page.after
        now_s = asyncio.get_running_loop().time()
        while self._pages and self._pages[0][0] < now_s - _YOUNG_S:
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
    """The tails of all batches that are watched on this server."""

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
        """Give the tail of a batch, which runs for as long as it has followers."""
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
    return end_of(tx, batch)


def _wake(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)

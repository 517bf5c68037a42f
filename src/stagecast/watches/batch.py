"""The watch of a batch: every transition, exactly once and in order.

A watcher is one cursor into the batch's log. The tail of the log in memory is only a short cut to
it: whoever is not within its reach reads the store, and a lost bell costs a heartbeat interval,
never a transition.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

from stagecast.config import Config
from stagecast.errors import HistoryChanged, TokenExpired
from stagecast.feed import Feed
from stagecast.model import (
    Batch,
    ResumeToken,
    SnapshotReason,
    WatchRequest,
    batch_state,
)
from stagecast.store import BatchName, Reading, Store, get_batch
from stagecast.watches.log import Cursor, Encode, Page, read_page
from stagecast.watches.patience import Patience
from stagecast.watches.snapshots import Snapshots
from stagecast.watches.tail import Tail, Tails

_HISTORY_ERRORS = {
    SnapshotReason.TOKEN_EXPIRED: TokenExpired,
    SnapshotReason.HISTORY_CHANGED: HistoryChanged,
}


class BatchWatches:
    """Serves the watchers of batches.

    Args:
        store: where the log is.
        feed: whose bells ring when a batch may have changed.
        encode: writes messages; they are handed on as bytes.
        config: how long a watch lives, and how long it gathers what follows.
        clock: microseconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        feed: Feed,
        *,
        encode: Encode,
        config: Config,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._feed = feed
        self._encode = encode
        self._config = config
        self._clock = clock
        self._tails = Tails(store, feed, encode=encode, tick_s=config.watch_tick_s)
        self._snapshots = Snapshots(store, encode=encode, clock=clock)

    async def watch(
        self, request: WatchRequest, *, on_begun: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[bytes]:
        """Yield the messages of a watch; it ends when the batch is terminal and all was sent.

        Args:
            request: what to watch.
            on_begun: called when the request was found good, maybe long before there is news.

        Raises:
            BatchNotFound: there is no such batch.
            TokenInvalid: the token is malformed, or of another batch.
            TokenExpired, HistoryChanged: if the request asks for that instead of a snapshot.
            BatchDeleted: the batch went while it was watched.
            Draining, WatchExpired: watch again with the last token.
        """
        watcher = _Watcher(self._store, request, encode=self._encode, clock=self._clock)
        with self._tails.follow(watcher.name) as tail:
            patience = Patience(request.heartbeat_s, self._config)
            start = await self._store.read(partial(_start, request=request))
            await on_begun()
            if isinstance(start, SnapshotReason):
                snapshot = await self._snapshots.take(watcher.name, start)
                async with contextlib.aclosing(snapshot.messages()) as messages:
                    async for message in messages:
                        yield message
                        patience.sent()
                        del message  # of a megabyte, and the watch may last an hour
                if _is_over(request, snapshot.batch):
                    return
                watcher.cursor = snapshot.cursor
                del snapshot
            else:
                watcher.cursor = start
            # It looks for itself once: a tail may not have heard yet of what another process has
            # committed, and must not tell a watch that begins after that that the batch is over.
            page: Page | None = await watcher.read()
            while True:
                if page is not None:
                    over = page.over and not request.follow
                    wanted = over or watcher.wants(page) or patience.heartbeat_due
                    news = watcher.tell(page) if wanted else None
                    watcher.pass_by(page)
                    page = None  # of up to a megabyte, and the reader may have stopped
                    if news is not None:
                        yield news
                        news = None
                        patience.sent()
                    if over:
                        return
                patience.check_alive(self._feed)
                page = await watcher.next(tail, patience)


class _Watcher:
    """One cursor, and what it takes from tail and store."""

    def __init__(
        self,
        store: Store,
        request: WatchRequest,
        *,
        encode: Encode,
        clock: Callable[[], int],
    ) -> None:
        self.name: BatchName = (request.dataset_id, request.batch_id)
        self.cursor = Cursor(key=0, revision=0, call=0, serial=0, mark=0)
        self._store = store
        self._progress = not request.transitions_only
        self._encode = encode
        self._clock = clock

    def wants(self, page: Page) -> bool:
        """Tell whether a page has news for it."""
        return page.concerns(self.cursor, progress=self._progress)

    def tell(self, page: Page) -> bytes:
        """Return what it is sent of a page."""
        return page.message(
            self.cursor, progress=self._progress, encode=self._encode, clock=self._clock
        )

    def pass_by(self, page: Page) -> None:
        """Move the cursor behind a page."""
        self.cursor = page.advance(self.cursor, progress=self._progress)

    async def read(self) -> Page:
        """Read what lies after the cursor from the store."""
        return await self._store.read(
            partial(
                read_page,
                name=self.name,
                cursor=self.cursor,
                progress=self._progress,
                encode=self._encode,
            )
        )

    async def next(self, tail: Tail, patience: Patience) -> Page | None:
        """Wait for the next page, of the tail if that reaches; `None` if there is none yet."""
        page = tail.find(self.cursor, progress=self._progress)
        if page is not None:
            return page
        if patience.heartbeat_due or tail.has_passed(self.cursor, progress=self._progress):
            return await self.read()
        await tail.wait(patience.due_s)
        return tail.find(self.cursor, progress=self._progress)


def _is_over(request: WatchRequest, batch: Batch) -> bool:
    return batch_state(batch).terminal and not request.follow


def _start(tx: Reading, request: WatchRequest) -> Cursor | SnapshotReason:
    """Return where to go on from the request's token, or why to begin with a snapshot."""
    token = None
    if request.resume_token:
        token = ResumeToken.decode(
            request.resume_token, dataset_id=request.dataset_id, batch_id=request.batch_id
        )
    batch = get_batch(tx, request.dataset_id, request.batch_id)
    if token is None:
        return SnapshotReason.INITIAL
    reason = _why_not(tx, batch, token)
    if reason is None:
        return Cursor(
            key=batch.key,
            revision=token.revision,
            call=token.call,
            serial=token.serial,
            mark=token.mark,
        )
    if request.fail_on_expired_token:
        raise _HISTORY_ERRORS[reason](
            f"the token's revision {token.revision} cannot be gone on from; batch "
            f"{batch.batch_id!r} is at {batch.revision}",
            dataset_id=batch.dataset_id,
            batch_id=batch.batch_id,
            revision=token.revision,
        )
    return reason


def _why_not(tx: Reading, batch: Batch, token: ResumeToken) -> SnapshotReason | None:
    """Tell why a watch cannot go on from its token, or `None` if it can."""
    call = tx.find_call(batch, token.revision)
    if call == token.call:
        # A copy may bear the transition, and yet have gone on from older counters.
        known = not token.serial or token.serial <= tx.find_serial(batch, token.mark)
        return None if known else SnapshotReason.HISTORY_CHANGED
    if call is None and token.revision <= batch.revision:
        return SnapshotReason.TOKEN_EXPIRED
    return SnapshotReason.HISTORY_CHANGED

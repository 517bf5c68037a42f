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
from stagecast.errors import HistoryChanged, HistoryError, TokenExpired
from stagecast.escaping import quote
from stagecast.model import (
    Batch,
    Caller,
    ResumeToken,
    SnapshotReason,
    WatchRequest,
)
from stagecast.notifier import Notifier
from stagecast.store import ReadTransaction, Store, get_batch
from stagecast.watches.log import Cursor, Encode, Page, token_expired
from stagecast.watches.snapshots import Snapshots
from stagecast.watches.tail import Tail, Tails
from stagecast.watches.timers import WatchTimers, begun
from stagecast.watches.watcher import Watcher


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
        notifier: Notifier,
        *,
        encode: Encode,
        config: Config,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._encode = encode
        self._config = config
        self._clock = clock
        self._tails = Tails(store, notifier, encode=encode, throttle_s=config.watch_throttle_s)
        self._snapshots = Snapshots(store, encode=encode, clock=clock)

    async def watch(
        self,
        request: WatchRequest,
        *,
        on_begun: Callable[[], Awaitable[None]],
        caller: Caller,
    ) -> AsyncGenerator[bytes]:
        """Yield the messages of a watch; it ends when the batch is terminal and all was sent.

        Args:
            request: what to watch.
            on_begun: called when the request was found good, maybe long before there is news; not
                if that took so long that a heartbeat was sent before.
            caller: who watches; asked before every message, and at least once in a heartbeat
                interval, whether they still may.

        Raises:
            BatchNotFound: there is no such batch.
            TokenInvalid: the token is malformed, or of another batch.
            TokenExpired, HistoryChanged: if the request asks for that instead of a snapshot.
            BatchDeleted: the batch went while it was watched.
            Draining, WatchExpired: watch again with the last token.
        """
        watcher = Watcher(
            self._store, request, caller.visible, encode=self._encode, clock=self._clock
        )
        with contextlib.closing(watcher), self._tails.follow(watcher.name) as tail:
            timers = WatchTimers(request.heartbeat_s, self._config)
            reading = self._store.read(partial(_start, request=request), visible=caller.visible)
            silent = True
            async with begun(reading) as start:
                while not await timers.is_done(start, self._notifier):
                    caller.check()
                    yield watcher.heartbeat()
                    timers.sent()
                    silent = False
            phases = self._phases(watcher, start.result(), tail, timers)
            if silent:
                await on_begun()
            while phases:
                try:
                    async with contextlib.aclosing(phases.pop(0)) as messages:
                        async for message in messages:
                            caller.check()
                            yield message
                            timers.sent()
                            del message  # of up to a megabyte, and the watch may last an hour
                except TokenExpired as error:
                    phases = self._phases(watcher, watcher.begin_anew(error), tail, timers)

    def _phases(
        self, watcher: Watcher, start: Cursor | SnapshotReason, tail: Tail, timers: WatchTimers
    ) -> list[AsyncGenerator[bytes]]:
        """Return what a watch is sent: a snapshot, if there is a reason for one, and the log."""
        follow = self._follow(watcher, tail, timers)
        if isinstance(start, SnapshotReason):
            return [self._begin(watcher, start, timers), follow]
        watcher.cursor = start
        timers.make_due()  # who comes back is told at once that it is connected
        return [follow]

    async def _begin(
        self, watcher: Watcher, reason: SnapshotReason, timers: WatchTimers
    ) -> AsyncGenerator[bytes]:
        """Yield a snapshot; while a part is waited for, heartbeats, which bear no token yet."""
        async with contextlib.aclosing(self._parts(watcher, reason)) as parts:
            while True:
                async with begun(anext(parts, None)) as coming:
                    while not await timers.is_done(coming, self._notifier):
                        yield watcher.heartbeat()
                part = coming.result()
                if part is None:
                    return
                yield part
                del part, coming

    async def _parts(self, watcher: Watcher, reason: SnapshotReason) -> AsyncGenerator[bytes]:
        snapshot = await self._snapshots.take(watcher.name, reason)
        async with contextlib.aclosing(snapshot.messages()) as messages:
            async for message in messages:
                yield message
                del message
        watcher.begin_behind(snapshot)

    async def _follow(
        self, watcher: Watcher, tail: Tail, timers: WatchTimers
    ) -> AsyncGenerator[bytes]:
        """Yield what lies after the watcher's cursor, until the batch is over."""
        if watcher.over:
            return
        page: Page | None = None
        while True:
            timers.check_alive(self._notifier)
            page = await watcher.next(tail, timers)
            if page is not None:
                wanted = watcher.wants(page) or timers.heartbeat_due
                news = watcher.tell(page) if wanted else None
                watcher.pass_by(page)
                page = None  # of up to a megabyte, and the reader may have stopped
                if news is not None:
                    yield news
                    news = None
                if watcher.over:
                    return
            elif watcher.unavailable and timers.heartbeat_due:
                yield watcher.heartbeat()


def _start(tx: ReadTransaction, request: WatchRequest) -> Cursor | SnapshotReason:
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
            write_id=token.write_id,
            progress_seq=token.progress_seq,
            server_epoch=token.server_epoch,
        )
    if request.fail_on_expired_token:
        raise _history_error(batch, token.revision, reason)
    return reason


def _history_error(batch: Batch, revision: int, reason: SnapshotReason) -> HistoryError:
    """Return what is told in place of a snapshot that has a reason."""
    if reason is SnapshotReason.TOKEN_EXPIRED:
        return token_expired(batch, revision)
    return HistoryChanged(
        f"the token's revision {revision} is of another history than that of batch "
        f"{quote(batch.batch_id)}, which is at {batch.revision}",
        dataset_id=batch.dataset_id,
        batch_id=batch.batch_id,
        revision=revision,
    )


def _why_not(tx: ReadTransaction, batch: Batch, token: ResumeToken) -> SnapshotReason | None:
    """Tell why a watch cannot go on from its token, or `None` if it can."""
    write_id = tx.find_write_id(batch, token.revision)
    if write_id == token.write_id:
        # A copy may bear the transition, and yet have gone on from older counters.
        known = not token.progress_seq or token.progress_seq <= tx.find_progress_seq(
            batch, token.server_epoch
        )
        return None if known else SnapshotReason.HISTORY_CHANGED
    if write_id is None and token.revision <= batch.revision:
        return SnapshotReason.TOKEN_EXPIRED
    return SnapshotReason.HISTORY_CHANGED

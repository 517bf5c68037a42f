"""The watch of a batch: every transition, exactly once and in order.

A watcher is one cursor into the batch's log. The tail in memory is only a cache of the log's end:
watchers further behind read the store, and a lost notification costs a heartbeat interval, never a
transition.
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
from stagecast.watches.timers import WatchTimers, running_task
from stagecast.watches.watcher import Watcher


class BatchWatches:
    """Serves watches of batches.

    Args:
        store: holds the logs.
        notifier: notifies when a batch may have changed.
        encode: serializes messages.
        config: maximum duration and throttle interval of a watch.
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
            request: the batch, the resume token and the options.
            on_begun: called once the request is accepted, before the first message; not called if
                a heartbeat had to be sent first.
            caller: checked for permission before every message, at least once per heartbeat
                interval.

        Raises:
            BatchNotFound: there is no such batch.
            TokenInvalid: the token is malformed, or of another batch.
            TokenExpired, HistoryChanged: only with `fail_on_expired_token`, instead of a snapshot.
            BatchDeleted: the batch was deleted during the watch.
            Draining, WatchExpired: watch again with the last token.
        """
        watcher = Watcher(
            self._store, request, caller.visible, encode=self._encode, clock=self._clock
        )
        with contextlib.closing(watcher), self._tails.follow(watcher.name) as tail:
            timers = WatchTimers(request.heartbeat_s, self._config)
            reading = self._store.read(partial(_start, request=request), visible=caller.visible)
            silent = True
            async with running_task(reading) as start:
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
                            del message  # up to a megabyte, and the watch may last an hour
                except TokenExpired as error:
                    phases = self._phases(watcher, watcher.restart(error), tail, timers)

    def _phases(
        self, watcher: Watcher, start: Cursor | SnapshotReason, tail: Tail, timers: WatchTimers
    ) -> list[AsyncGenerator[bytes]]:
        """Return the parts of a watch: a snapshot, if there is a reason for one, and the log."""
        follow = self._follow(watcher, tail, timers)
        if isinstance(start, SnapshotReason):
            return [self._begin(watcher, start, timers), follow]
        watcher.cursor = start
        timers.make_due()  # a resumed watch confirms at once that it is connected
        return [follow]

    async def _begin(
        self, watcher: Watcher, reason: SnapshotReason, timers: WatchTimers
    ) -> AsyncGenerator[bytes]:
        """Yield a snapshot, and heartbeats without a token while a part is being read."""
        async with contextlib.aclosing(self._parts(watcher, reason)) as parts:
            while True:
                async with running_task(anext(parts, None)) as task:
                    while not await timers.is_done(task, self._notifier):
                        yield watcher.heartbeat()
                part = task.result()
                if part is None:
                    return
                yield part
                del part, task

    async def _parts(self, watcher: Watcher, reason: SnapshotReason) -> AsyncGenerator[bytes]:
        snapshot = await self._snapshots.take(watcher.name, reason)
        async with contextlib.aclosing(snapshot.messages()) as messages:
            async for message in messages:
                yield message
                del message
        watcher.start_after(snapshot)

    async def _follow(
        self, watcher: Watcher, tail: Tail, timers: WatchTimers
    ) -> AsyncGenerator[bytes]:
        """Yield the messages after the watcher's cursor, until the batch has ended."""
        if watcher.ended:
            return
        page: Page | None = None
        while True:
            timers.check_alive(self._notifier)
            page = await watcher.next(tail, timers)
            if page is not None:
                send = watcher.has_news(page) or timers.heartbeat_due
                message = watcher.message(page) if send else None
                watcher.advance(page)
                page = None  # up to a megabyte, and the client may have stopped reading
                if message is not None:
                    yield message
                    message = None
                if watcher.ended:
                    return
            elif watcher.unavailable and timers.heartbeat_due:
                yield watcher.heartbeat()


def _start(tx: ReadTransaction, request: WatchRequest) -> Cursor | SnapshotReason:
    """Return the cursor of the request's token, or the reason for a snapshot."""
    token = None
    if request.resume_token:
        token = ResumeToken.decode(
            request.resume_token, dataset_id=request.dataset_id, batch_id=request.batch_id
        )
    batch = get_batch(tx, request.dataset_id, request.batch_id)
    if token is None:
        return SnapshotReason.INITIAL
    reason = _snapshot_reason(tx, batch, token)
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
    """Return the error that replaces a snapshot with this reason."""
    if reason is SnapshotReason.TOKEN_EXPIRED:
        return token_expired(batch, revision)
    return HistoryChanged(
        f"resume token does not match the history of batch {quote(batch.batch_id)}: it is of "
        f"revision {revision} of another history (current revision: {batch.revision})",
        dataset_id=batch.dataset_id,
        batch_id=batch.batch_id,
        revision=revision,
    )


def _snapshot_reason(
    tx: ReadTransaction, batch: Batch, token: ResumeToken
) -> SnapshotReason | None:
    """Return why a watch cannot resume from its token, or `None` if it can."""
    write_id = tx.find_write_id(batch, token.revision)
    if write_id == token.write_id:
        # A restored copy may have the transition, but older counters.
        known = not token.progress_seq or token.progress_seq <= tx.find_progress_seq(
            batch, token.server_epoch
        )
        return None if known else SnapshotReason.HISTORY_CHANGED
    if write_id is None and token.revision <= batch.revision:
        return SnapshotReason.TOKEN_EXPIRED
    return SnapshotReason.HISTORY_CHANGED

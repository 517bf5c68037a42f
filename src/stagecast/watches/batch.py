"""The watch of a batch: every transition, exactly once and in order.

A watcher is one cursor into the batch's log. The tail in memory is only a cache of the log's end:
watchers further behind read the store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

from stagecast.errors import BatchNotFound, HistoryChanged, HistoryError, WatchExpired
from stagecast.model import (
    ALL,
    ResumeToken,
    SnapshotReason,
    WatchMessage,
    WatchRequest,
    batch_state,
)
from stagecast.store import (
    BatchName,
    Committed,
    ReadTransaction,
    Store,
    check_history,
    get_batch,
)
from stagecast.watches.log import (
    Cursor,
    Encode,
    Page,
    committed_page,
    read_page,
    token_expired,
)
from stagecast.watches.snapshots import Snapshot, Snapshots
from stagecast.watches.tail import Tails
from stagecast.watches.watch import Receiver, Shared, Watch


class BatchWatches:
    """Serves watches of batches.

    Args:
        store: holds the logs.
        shared: what all watches share.
        encode: serializes messages.
        clock: microseconds since the epoch.
    """

    def __init__(
        self, store: Store, shared: Shared, *, encode: Encode, clock: Callable[[], int]
    ) -> None:
        self.store = store
        self.shared = shared
        self.encode = encode
        self.clock = clock
        self.snapshots = Snapshots(store, encode=encode, clock=clock)
        self._tails: Tails[BatchName, Cursor, Page] = Tails(
            shared.notifier, shared.rounds, topics=lambda name: (name,), read=self._read
        )

    async def watch(self, request: WatchRequest, receiver: Receiver) -> None:
        """Serve a watch; it ends when the batch is terminal and all was sent.

        Raises:
            BatchNotFound: there is no such batch.
            TokenInvalid: the token is malformed, or of another batch.
            TokenExpired, HistoryChanged: only with `fail_on_expired_token`, instead of a snapshot.
            BatchDeleted: the batch was deleted during the watch.
            Draining, WatchExpired: watch again with the last token.
        """
        watch = _BatchWatch(self, request, receiver)
        with watch.opened(self._tails, watch.name):
            await watch.run()

    async def _read(
        self, name: BatchName, cursor: Cursor, recent: Sequence[Committed] = ()
    ) -> Page:
        page = committed_page(name, cursor, recent, encode=self.encode)
        if page is not None:
            return page
        query = partial(read_page, name=name, cursor=cursor, progress=True, encode=self.encode)
        return await self.store.read(query, visible=ALL)


class _BatchWatch(Watch[Cursor, Page]):
    """One watch of a batch."""

    def __init__(self, watches: BatchWatches, request: WatchRequest, receiver: Receiver) -> None:
        super().__init__(watches.shared, receiver, request.heartbeat_s)
        self.name: BatchName = (request.dataset_id, request.batch_id)
        self._store = watches.store
        self._snapshots = watches.snapshots
        self._request = request
        self._visible = receiver.caller.visible
        self._progress = not request.transitions_only
        self._encode = watches.encode
        self._clock = watches.clock
        self._position = b""  # none before the first complete snapshot, and within a call

    async def run(self) -> None:
        """Send everything until the batch has ended."""
        reason = await self._send_first()
        while not self.ended:
            try:
                if reason is not None:
                    await self._send_snapshot(reason)
                await self.follow()
            except HistoryError as error:
                reason = self._restart(error)

    def heartbeat(self) -> bytes:
        """Return a heartbeat with the current resume token.

        Before a snapshot is complete, and between parts of a call, there is no token.
        """
        return self._position + self._encode(WatchMessage(server_at=self._clock()))

    def is_at(self, position: Cursor) -> bool:
        """Return whether the cursor is at a position; the write id shows that the history is it."""
        cursor = self.cursor
        # Watches in step have the very object of their tail.
        return position is cursor or (
            position.revision == cursor.revision
            and position.write_id == cursor.write_id
            and (position.progress_seq == cursor.progress_seq or not self._progress)
        )

    def advance(self, page: Page) -> bytes:
        """Move the cursor to the end of a page; return its message, without news a heartbeat."""
        sent = page.message(
            self.cursor, progress=self._progress, encode=self._encode, clock=self._clock
        )
        self.cursor = page.advance(self.cursor, progress=self._progress)
        self._position = sent.position
        # The tail may have read on, after the batch was reopened.
        self.ended = self._is_end(page) and self.find() is None
        return sent.message

    def _is_end(self, page: Page) -> bool:
        """Return whether nothing followed a page for this watch when it was read."""
        return page.ended and not self._request.follow and (page.caught_up or not self._progress)

    async def read(self) -> Page:
        """Read the page after the cursor from the store."""
        query = partial(
            read_page,
            name=self.name,
            cursor=self.cursor,
            progress=self._progress,
            encode=self._encode,
        )
        return await self._store.read(query, visible=self._visible)

    async def _send_first(self) -> SnapshotReason | None:
        """Resume, or return the reason for a snapshot."""
        if not self._request.resume_token:
            # The first part is read together with the batch, and shared: check visibility here.
            if not self._visible.includes(self.name[0]):
                raise BatchNotFound(*self.name)
            return SnapshotReason.INITIAL
        start = await self._start()
        if isinstance(start, SnapshotReason):
            return start
        await self.send(start)
        return None

    async def _start(self) -> bytes | SnapshotReason:
        """Return the first message of a resumed watch, or the reason for a snapshot.

        Without news it is a heartbeat: the client knows at once that it is connected.
        """
        query = partial(_read_start, request=self._request, encode=self._encode)
        start = await self.result(self._store.read(query, visible=self._visible))
        await self.begin()
        if isinstance(start, SnapshotReason):
            return start
        self.note_end(start)
        self.cursor = start.before
        return self.advance(start)

    async def _send_snapshot(self, reason: SnapshotReason) -> None:
        async with contextlib.AsyncExitStack() as stack:
            opening = self._snapshots.opened(self.name, reason)
            snapshot = await self.result(stack.enter_async_context(opening))
            await self.begin()  # grpc cannot end a stream whose first write still has the headers
            origin = snapshot.origin
            self._tail.begin_at(origin.cursor)
            number = 0
            after: int | None = snapshot.start
            while after is not None:
                after = await self._send_part(snapshot, number, after)
                number += 1
            self.cursor, self._position = origin.cursor, origin.position
            self.ended = batch_state(origin.batch).terminal and not self._request.follow
        if self.ended and number > 1:
            # It may have been reopened since the first part was read.
            await self.send(self.advance(await self.read_page()))

    async def _send_part(self, snapshot: Snapshot, number: int, after: int) -> int | None:
        """Send a part of a snapshot; return the position after which the next one starts."""
        part = snapshot.find(number)
        if part is None:
            part = await self.result(snapshot.part(number, after))
        await self.send(part.message)
        return part.next_after

    def _restart(self, error: HistoryError) -> SnapshotReason:
        """Return the reason for a snapshot after the log has changed behind the cursor.

        Raises:
            HistoryError: the request prefers the error.
            WatchExpired: only part of a call or snapshot was sent, which the client has to discard.
        """
        if self._request.fail_on_expired_token:
            raise error
        if not self._position:
            raise WatchExpired(f"{error}; watch again with the last token", retry_after_s=0)
        self._position = b""
        return _reason_of(error)


def _read_start(
    tx: ReadTransaction, request: WatchRequest, encode: Encode
) -> Page | SnapshotReason:
    """Return the page after the request's token, or the reason for a snapshot."""
    name = (request.dataset_id, request.batch_id)
    token = ResumeToken.decode(request.resume_token, dataset_id=name[0], batch_id=name[1])
    batch = get_batch(tx, *name)
    cursor = Cursor.of(token, batch.key)
    try:
        if not check_history(tx, batch, cursor):
            raise token_expired(batch, cursor.revision)
        progress = not request.transitions_only
        return read_page(tx, name, cursor, progress=progress, encode=encode)
    except HistoryError as error:
        if request.fail_on_expired_token:
            raise
        return _reason_of(error)


def _reason_of(error: HistoryError) -> SnapshotReason:
    if isinstance(error, HistoryChanged):
        return SnapshotReason.HISTORY_CHANGED
    return SnapshotReason.TOKEN_EXPIRED

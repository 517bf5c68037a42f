"""One watcher of a batch: its cursor, its options, and the source of its next page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from stagecast.errors import TokenExpired, WatchExpired
from stagecast.model import (
    Batch,
    SnapshotReason,
    Visibility,
    WatchMessage,
    WatchRequest,
    batch_state,
)
from stagecast.store import BatchName, Store
from stagecast.watches.log import Cursor, Encode, Page, read_page
from stagecast.watches.pending_read import PendingRead
from stagecast.watches.snapshots import Snapshot
from stagecast.watches.tail import Tail
from stagecast.watches.timers import WatchTimers


class Watcher:
    """A cursor, and the pages after it from tail or store.

    Attributes:
        cursor: the position up to which messages were sent.
        ended: whether there will be no more messages.
    """

    def __init__(
        self,
        store: Store,
        request: WatchRequest,
        visible: Visibility,
        *,
        encode: Encode,
        clock: Callable[[], int],
    ) -> None:
        self.name: BatchName = (request.dataset_id, request.batch_id)
        self.cursor = Cursor(key=0, revision=0, write_id=0, progress_seq=0, server_epoch=0)
        self.ended = False
        self._has_read = False  # the store itself, since it began to follow
        self._at_token = True  # the last message had a token
        self._store = store
        self._visible = visible
        self._follow = request.follow
        self._fail_on_expired_token = request.fail_on_expired_token
        self._progress = not request.transitions_only
        self._encode = encode
        self._clock = clock
        self._batch: Batch | None = None
        self._pending: PendingRead[Page] = PendingRead()

    @property
    def unavailable(self) -> bool:
        """Whether the last read failed or has not returned yet."""
        return self._pending.unavailable

    def close(self) -> None:
        """Cancel a running read."""
        self._pending.close()

    def start_after(self, snapshot: Snapshot) -> None:
        """Move the cursor to the end of a snapshot that was sent."""
        self.cursor = snapshot.cursor
        self._batch = snapshot.batch
        self._has_read = False
        self.ended = batch_state(snapshot.batch).terminal and not self._follow

    def restart(self, error: TokenExpired) -> SnapshotReason:
        """Return the reason for a snapshot after the log was trimmed beyond the cursor.

        Raises:
            TokenExpired: the request prefers the error.
            WatchExpired: only part of a call was sent, which the client has to discard first.
        """
        if self._fail_on_expired_token:
            raise error
        if not self._at_token:
            raise WatchExpired(f"{error}; watch again with the last token", retry_after_s=0)
        self._batch = None
        return SnapshotReason.TOKEN_EXPIRED

    def has_news(self, page: Page) -> bool:
        """Return whether a page has entries after the cursor, or ends the watch."""
        ends = page.ended and not self._follow
        return ends or page.has_news_after(self.cursor, progress=self._progress)

    def message(self, page: Page) -> bytes:
        """Return the message that sends a page."""
        return page.message(
            self.cursor, progress=self._progress, encode=self._encode, clock=self._clock
        )

    def advance(self, page: Page) -> None:
        """Move the cursor to the end of a page."""
        self.cursor = page.advance(self.cursor, progress=self._progress)
        self.ended = page.ended and not self._follow
        self._at_token = page.whole
        self._batch = page.batch if page.whole else None

    def heartbeat(self) -> bytes:
        """Return a heartbeat with the current resume token.

        Before a snapshot is complete, and between parts of a call, there is no token.
        """
        if self._batch is None:
            return self._encode(WatchMessage(server_at=self._clock()))
        return self._encode(
            WatchMessage(
                batch=self._batch,
                revision=self.cursor.revision,
                resume_token=self.cursor.token(self.name),
                server_at=self._clock(),
            )
        )

    async def _read(self) -> Page:
        """Read the page after the cursor from the store."""
        return await self._store.read(
            partial(
                read_page,
                name=self.name,
                cursor=self.cursor,
                progress=self._progress,
                encode=self._encode,
            ),
            visible=self._visible,
        )

    async def next(self, tail: Tail, timers: WatchTimers) -> Page | None:
        """Wait for the next page, from the tail if it has it; `None` if there is none yet.

        The first page comes from the store: the tail may lag behind a commit of another process,
        and must not end a watch that started after that commit.
        """
        if self._pending.pending or not self._has_read:
            page = await self._pending.take(self._read, timers)
            self._has_read = self._has_read or page is not None
            return page
        page = tail.find(self.cursor, progress=self._progress)
        if page is not None:
            return page
        if timers.heartbeat_due or tail.has_passed(self.cursor, progress=self._progress):
            return await self._pending.take(self._read, timers)
        await tail.wait(timers.due_s)
        return tail.find(self.cursor, progress=self._progress)

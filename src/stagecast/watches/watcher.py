"""One watcher of a batch: its cursor, what it wants, and where it takes its next page from."""

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
    """One cursor, and what it takes from tail and store.

    Attributes:
        cursor: what it was sent.
        over: whether that is all there will be.
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
        self.over = False
        self._looked = False  # since it began to follow
        self._settled = True  # what it was sent last bore a token
        self._store = store
        self._visible = visible
        self._follows = request.follow
        self._fails = request.fail_on_expired_token
        self._progress = not request.transitions_only
        self._encode = encode
        self._clock = clock
        self._batch: Batch | None = None
        self._pending: PendingRead[Page] = PendingRead()

    @property
    def unavailable(self) -> bool:
        """Whether the store does not answer: what lies after the cursor is not known."""
        return self._pending.unavailable

    def close(self) -> None:
        """Ask for no more."""
        self._pending.close()

    def begin_behind(self, snapshot: Snapshot) -> None:
        """Move the cursor behind a snapshot that it was sent."""
        self.cursor = snapshot.cursor
        self._batch = snapshot.batch
        self._looked = False
        self.over = batch_state(snapshot.batch).terminal and not self._follows

    def begin_anew(self, error: TokenExpired) -> SnapshotReason:
        """Return why it is sent a snapshot after its part of the log was let go.

        Raises:
            TokenExpired: it asked for that.
            WatchExpired: it was sent a part of a call, which has to be forgotten first.
        """
        if self._fails:
            raise error
        if not self._settled:
            raise WatchExpired(f"{error}; watch again with the last token", retry_after_s=0)
        self._batch = None
        return SnapshotReason.TOKEN_EXPIRED

    def wants(self, page: Page) -> bool:
        """Tell whether a page has news for it, be it that there will be no more."""
        ends = page.over and not self._follows
        return ends or page.concerns(self.cursor, progress=self._progress)

    def tell(self, page: Page) -> bytes:
        """Return what it is sent of a page."""
        return page.message(
            self.cursor, progress=self._progress, encode=self._encode, clock=self._clock
        )

    def pass_by(self, page: Page) -> None:
        """Move the cursor behind a page."""
        self.cursor = page.advance(self.cursor, progress=self._progress)
        self.over = page.over and not self._follows
        self._settled = page.whole
        self._batch = page.batch if page.whole else None

    def heartbeat(self) -> bytes:
        """Return a sign of life that says how far it is.

        Before a snapshot is complete, and between parts of a call, there is nothing to go on from.
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
        """Read what lies after the cursor from the store."""
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
        """Wait for the next page, of the tail if that reaches; `None` if there is none yet.

        It looks for itself once: a tail may not have heard yet of what another process has
        committed, and must not tell a watch that begins after that that the batch is over.
        """
        if self._pending.pending or not self._looked:
            page = await self._pending.take(self._read, timers)
            self._looked = self._looked or page is not None
            return page
        page = tail.find(self.cursor, progress=self._progress)
        if page is not None:
            return page
        if timers.heartbeat_due or tail.has_passed(self.cursor, progress=self._progress):
            return await self._pending.take(self._read, timers)
        await tail.wait(timers.due_s)
        return tail.find(self.cursor, progress=self._progress)

"""Snapshots of batches, read in pieces and encoded once for all who begin to watch together.

All pieces are as of one revision: a document that has changed since is read from the log as it was.
So no read is held open, and what a slow watcher has not been sent yet can be read again instead of
being kept. Each watcher has found the batch with its own visibility before.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial

from stagecast.model import (
    ALL,
    Batch,
    SnapshotPart,
    SnapshotReason,
    WatchMessage,
    size_bound,
    take_page,
)
from stagecast.singleflight import SingleFlight
from stagecast.store import BatchName, ReadTransaction, Store, get_batch
from stagecast.watches.log import Cursor, Encode, end_of, find_named

_BYTES = 64 << 20  # of parts that are kept for those who watch, in all


@dataclass(frozen=True, slots=True)
class _Part:
    """A message, and behind which document the next one begins; `None` after the last."""

    message: bytes
    next_after: int | None


_Read = Callable[[int], AsyncGenerator[_Part]]
"""Reads the parts behind a position, one by one."""


class Snapshot:
    """All documents of a batch as of one revision.

    It lives for as long as somebody watches: then it is read no further, and nothing of it is kept.

    Attributes:
        cursor: where to go on behind it.
        batch: as of that revision.
        size: how many bytes of it are kept.
        reading: done when no more of it will be kept.
    """

    def __init__(
        self,
        cursor: Cursor,
        batch: Batch,
        read: _Read,
        has_room: Callable[[Snapshot, int], bool],
    ) -> None:
        self.cursor = cursor
        self.batch = batch
        self.size = 0
        self._read = read
        self._has_room = has_room
        self._retained: list[_Part] = []
        self._dropped = False
        self._more = asyncio.Event()
        # Neither the task nor what follows it holds on to the snapshot.
        self.reading = asyncio.create_task(_keep_all(weakref.ref(self), read))
        more = self._more
        self.reading.add_done_callback(lambda _: more.set())

    def keep(self, part: _Part) -> bool:
        """Keep a part for everybody; False if there is no room for it, nor for those behind it."""
        size = len(part.message)
        if self._dropped or not self._has_room(self, size):
            return False
        self._retained.append(part)
        self.size += size
        self._more.set()
        return True

    def drop(self) -> None:
        """Keep nothing any more: who is not through reads the rest for itself."""
        self._dropped = True
        self._retained = []
        self.size = 0
        self._more.set()

    async def messages(self) -> AsyncGenerator[bytes]:
        """Yield the messages; only the last bears a token."""
        sent = 0
        after: int | None = -1
        while after is not None and await self._is_retained(sent):
            part = self._retained[sent]
            yield part.message
            sent, after = sent + 1, part.next_after
            del part
        if after is not None:
            async with contextlib.aclosing(self._read(after)) as rest:
                async for part in rest:
                    yield part.message
                    del part

    async def _is_retained(self, number: int) -> bool:
        """Wait until a part is there, or will not be kept."""
        while number >= len(self._retained) and not self._dropped and not self.reading.done():
            self._more.clear()
            await self._more.wait()
        return number < len(self._retained)


async def _keep_all(snapshot: weakref.ref[Snapshot], read: _Read) -> None:
    """Read part by part for everybody, for as long as there is somebody, and room."""
    # Whatever goes wrong, each watcher reads the rest for itself, and is told.
    with contextlib.suppress(Exception):
        async with contextlib.aclosing(read(-1)) as parts:
            async for part in parts:
                needed = snapshot()
                if needed is None or not needed.keep(part):
                    return
                del needed, part


class Snapshots:
    """Takes snapshots, one at a time of each batch; who asks meanwhile shares the next."""

    def __init__(self, store: Store, *, encode: Encode, clock: Callable[[], int]) -> None:
        self._store = store
        self._encode = encode
        self._clock = clock
        self._single_flight: SingleFlight[Snapshot] = SingleFlight()
        self._newest: weakref.WeakValueDictionary[BatchName, Snapshot] = (
            weakref.WeakValueDictionary()
        )
        self._all: list[weakref.ref[Snapshot]] = []

    async def take(self, name: BatchName, reason: SnapshotReason) -> Snapshot:
        """Return a snapshot that was begun after this was called.

        Raises:
            BatchNotFound: there is no such batch.
        """
        return await self._single_flight.do((name, reason), lambda: self._take(name, reason))

    async def _take(self, name: BatchName, reason: SnapshotReason) -> Snapshot:
        before = self._newest.get(name)
        if before is not None:
            reading = before.reading
            del before  # who waits here does not need it
            await asyncio.wait((reading,))
        cursor, batch = await self._store.read(partial(_begin, name=name), visible=ALL)
        read = partial(self._read, cursor, batch, reason)
        snapshot = Snapshot(cursor, batch, read, self._has_room)
        self._newest[name] = snapshot
        self._all.append(weakref.ref(snapshot, self._all.remove))
        return snapshot

    def _has_room(self, snapshot: Snapshot, size: int) -> bool:
        """Make room for a part of a snapshot, at the cost of the oldest others."""
        living = [other for other in (ref() for ref in self._all) if other is not None]
        retained = sum(other.size for other in living)
        for oldest in living:
            if retained + size > _BYTES and oldest is not snapshot:
                retained -= oldest.size
                oldest.drop()
        return retained + size <= _BYTES

    async def _read(
        self, cursor: Cursor, batch: Batch, reason: SnapshotReason, after: int
    ) -> AsyncGenerator[_Part]:
        following: int | None = after
        while following is not None:
            part = await self._store.read(
                partial(
                    self._read_part, cursor=cursor, batch=batch, reason=reason, after=following
                ),
                visible=ALL,
            )
            yield part
            following = part.next_after

    def _read_part(
        self, tx: ReadTransaction, cursor: Cursor, batch: Batch, reason: SnapshotReason, after: int
    ) -> _Part:
        """Read a part and encode it. Runs on a thread of the store."""
        name = (batch.dataset_id, batch.batch_id)
        now = find_named(tx, name, cursor.key)
        documents, following = take_page(
            tx.iterate_documents(now, after_position=after, as_of=cursor.revision),
            size_bound,
            limit=batch.counts.total,
        )
        complete = following is None
        message = WatchMessage(
            snapshot=SnapshotPart(reason=reason, documents=documents, complete=complete),
            batch=batch if complete else None,
            revision=cursor.revision,
            resume_token=cursor.token(name) if complete else "",
            server_at=self._clock(),
        )
        return _Part(self._encode(message), None if complete else documents[-1].position)


def _begin(tx: ReadTransaction, name: BatchName) -> tuple[Cursor, Batch]:
    batch = get_batch(tx, *name)
    return end_of(tx, batch), batch

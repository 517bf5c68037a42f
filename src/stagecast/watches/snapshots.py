"""Snapshots of batches, read in parts and encoded once for all watches that start together.

All parts are as of one revision: documents that changed since are read from the log. So no
transaction stays open, and parts for a slow watcher can be read again instead of being cached.
Each watcher has read the batch with its own visibility before.
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
    document_size,
    take_page,
)
from stagecast.singleflight import SingleFlight
from stagecast.store import BatchName, ReadTransaction, Store, get_batch
from stagecast.watches.log import Cursor, Encode, end_cursor, get_same_batch

_BYTES = 64 << 20  # of cached parts, of all snapshots
_PART = 2_000  # documents in one read: some milliseconds


@dataclass(frozen=True, slots=True)
class _Part:
    """A message, and the position after which the next one starts; `None` after the last."""

    message: bytes
    next_after: int | None


_Read = Callable[[int], AsyncGenerator[_Part]]
"""Reads the parts after a position, one by one."""


class Snapshot:
    """All documents of a batch as of one revision.

    It lives as long as a watcher holds it; then reading stops and its parts are freed.

    Attributes:
        cursor: where the log continues after it.
        batch: as of that revision.
        size: bytes of its cached parts.
        reading: done when no more parts will be cached.
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
        # Neither the task nor its callback keeps the snapshot alive.
        self.reading = asyncio.create_task(_cache_all(weakref.ref(self), read))
        more = self._more
        self.reading.add_done_callback(lambda _: more.set())

    def cache(self, part: _Part) -> bool:
        """Cache a part for all watchers; False if there is no room for it and those after it."""
        size = len(part.message)
        if self._dropped or not self._has_room(self, size):
            return False
        self._retained.append(part)
        self.size += size
        self._more.set()
        return True

    def drop(self) -> None:
        """Free the cached parts; watchers that still need some read the rest themselves."""
        self._dropped = True
        self._retained = []
        self.size = 0
        self._more.set()

    async def messages(self) -> AsyncGenerator[bytes]:
        """Yield the messages; only the last has a token."""
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
        """Wait for a part; False if it will not be cached."""
        while number >= len(self._retained) and not self._dropped and not self.reading.done():
            self._more.clear()
            await self._more.wait()
        return number < len(self._retained)


async def _cache_all(snapshot: weakref.ref[Snapshot], read: _Read) -> None:
    """Read and cache part by part, as long as there are watchers and room."""
    # After any error each watcher reads the rest itself, and gets the error then.
    with contextlib.suppress(Exception):
        async with contextlib.aclosing(read(-1)) as parts:
            async for part in parts:
                needed = snapshot()
                if needed is None or not needed.cache(part):
                    return
                del needed, part


class Snapshots:
    """Takes snapshots, one at a time per batch; callers that wait meanwhile share the next."""

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
        """Return a snapshot that was started after this call.

        Raises:
            BatchNotFound: there is no such batch.
        """
        return await self._single_flight.do((name, reason), lambda: self._take(name, reason))

    async def _take(self, name: BatchName, reason: SnapshotReason) -> Snapshot:
        before = self._newest.get(name)
        if before is not None:
            reading = before.reading
            del before  # do not keep it alive while waiting
            await asyncio.wait((reading,))
        cursor, batch = await self._store.read(partial(_begin, name=name), visible=ALL)
        read = partial(self._read, cursor, batch, reason)
        snapshot = Snapshot(cursor, batch, read, self._has_room)
        self._newest[name] = snapshot
        self._all.append(weakref.ref(snapshot, self._all.remove))
        return snapshot

    def _has_room(self, snapshot: Snapshot, size: int) -> bool:
        """Make room for a part of a snapshot by dropping the oldest others."""
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
        now = get_same_batch(tx, name, cursor.key)
        documents, following = take_page(
            tx.iterate_encoded_documents(now, after_position=after, as_of=cursor.revision),
            document_size,
            limit=_PART,
        )
        complete = following is None
        part = SnapshotPart(reason=reason, documents=documents, complete=complete)
        rest = WatchMessage(
            batch=batch if complete else None,
            revision=cursor.revision,
            resume_token=cursor.token(name) if complete else "",
            server_at=self._clock(),
        )
        message = self._encode.snapshot(name, part) + self._encode(rest)
        return _Part(message, None if complete else documents[-1].position)


def _begin(tx: ReadTransaction, name: BatchName) -> tuple[Cursor, Batch]:
    batch = get_batch(tx, *name)
    return end_cursor(tx, batch), batch

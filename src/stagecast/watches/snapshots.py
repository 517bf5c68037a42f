"""Snapshots of batches, read in parts and encoded once for all watches that start together.

All parts are as of one revision: documents that changed since are read from the log. So no
transaction stays open, and parts for a slow watcher can be read again instead of being cached.
Each watcher has read the batch with its own visibility before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
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
from stagecast.store import BatchName, ReadTransaction, Store, check_history, get_batch
from stagecast.watches.log import (
    Cursor,
    Encode,
    encode_position,
    end_cursor,
    get_same_batch,
)

_BYTES = 64 << 20  # of cached parts, of all snapshots
_PART = 2_000  # documents in one read: some milliseconds


@dataclass(frozen=True, slots=True)
class _Part:
    """A message, and the position after which the next one starts; `None` after the last."""

    message: bytes
    next_after: int | None


@dataclass(frozen=True, slots=True)
class Origin:
    """A batch, the cursor where its log continues, and the piece of a message that tells this."""

    batch: Batch
    cursor: Cursor
    position: bytes
    reason: SnapshotReason


_Read = Callable[[int], Awaitable[_Part]]
"""Reads the part after a position."""


class Snapshot:
    """All documents of a batch as of one revision, for the watches that send it.

    Attributes:
        start: the position before its first part.
        origin: what it is of.
        size: bytes of its cached parts.
        reading: done when no more parts will be cached.
    """

    start = -1

    def __init__(
        self, origin: Origin, read: _Read, has_room: Callable[[Snapshot, int], bool]
    ) -> None:
        self.origin = origin
        self.size = 0
        self._read = read
        self._has_room = has_room
        self._parts: list[_Part] = []
        self._dropped = False
        self._more = asyncio.Event()
        self.reading: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def cache(self, part: _Part) -> bool:
        """Cache a part for all watches; False if there is no room for it and those after it."""
        size = len(part.message)
        if self._dropped or not self._has_room(self, size):
            return False
        self._parts.append(part)
        self.size += size
        self._wake()
        return True

    def read_ahead(self) -> None:
        """Start to read and cache the parts that are missing."""
        self.reading = asyncio.create_task(self._read_ahead())
        self.reading.add_done_callback(lambda _: self._wake())

    def drop(self) -> None:
        """Free the cached parts; watches that still need some read the rest themselves."""
        self._dropped = True
        self._parts = []
        self.size = 0
        self.reading.cancel()

    def find(self, number: int) -> _Part | None:
        """Return a part if it is cached."""
        return self._parts[number] if number < len(self._parts) else None

    async def part(self, number: int, after: int) -> _Part:
        """Return a part: cached for all watches, or read for this one."""
        while number >= len(self._parts) and not self.reading.done():
            await self._more.wait()
        return self.find(number) or await self._read(after)

    async def _read_ahead(self) -> None:
        # After any error each watch reads the rest itself, and gets the error then.
        with contextlib.suppress(Exception):
            after = self._parts[-1].next_after if self._parts else None
            while after is not None:
                part = await self._read(after)
                if not self.cache(part):
                    return
                after = part.next_after

    def _wake(self) -> None:
        self._more.set()
        self._more = asyncio.Event()


class Snapshots:
    """Takes snapshots, one at a time per batch; watches that wait meanwhile share the next."""

    def __init__(self, store: Store, *, encode: Encode, clock: Callable[[], int]) -> None:
        self._store = store
        self._encode = encode
        self._clock = clock
        self._single_flight: SingleFlight[Snapshot] = SingleFlight()
        self._newest: dict[BatchName, Snapshot] = {}
        self._users: Counter[Snapshot] = Counter()

    @contextlib.asynccontextmanager
    async def opened(self, name: BatchName, reason: SnapshotReason) -> AsyncGenerator[Snapshot]:
        """Yield a snapshot that was started after this call.

        It is read further, and cached, as long as any watch is within this block.

        Raises:
            BatchNotFound: there is no such batch.
        """
        snapshot = await self._single_flight.do((name, reason), lambda: self._take(name, reason))
        if snapshot not in self._users:
            self._newest[name] = snapshot
            snapshot.read_ahead()
        self._users[snapshot] += 1
        try:
            yield snapshot
        finally:
            self._users[snapshot] -= 1
            if not self._users[snapshot]:
                del self._users[snapshot]
                snapshot.drop()
                if self._newest.get(name) is snapshot:
                    del self._newest[name]

    async def _take(self, name: BatchName, reason: SnapshotReason) -> Snapshot:
        if name in self._newest:
            await asyncio.wait((self._newest[name].reading,))
        origin, first = await self._store.read(
            partial(self._read_first, name=name, reason=reason), visible=ALL
        )
        snapshot = Snapshot(origin, partial(self._read, origin), self._has_room)
        snapshot.cache(first)
        return snapshot

    def _has_room(self, snapshot: Snapshot, size: int) -> bool:
        """Make room for a part of a snapshot by dropping the oldest others."""
        retained = sum(other.size for other in self._users)
        for oldest in self._users:
            if retained + size > _BYTES and oldest is not snapshot:
                retained -= oldest.size
                oldest.drop()
        return retained + size <= _BYTES

    async def _read(self, origin: Origin, after: int) -> _Part:
        query = partial(self._read_part, origin=origin, after=after)
        return await self._store.read(query, visible=ALL)

    def _read_first(
        self, tx: ReadTransaction, name: BatchName, reason: SnapshotReason
    ) -> tuple[Origin, _Part]:
        batch = get_batch(tx, *name)
        cursor = end_cursor(tx, batch)
        origin = Origin(batch, cursor, encode_position(batch, cursor, self._encode), reason)
        return origin, self._encode_part(tx, origin, Snapshot.start)

    def _read_part(self, tx: ReadTransaction, origin: Origin, after: int) -> _Part:
        """Read a part after the first, of the same batch and history."""
        batch, cursor = origin.batch, origin.cursor
        now = get_same_batch(tx, (batch.dataset_id, batch.batch_id), cursor.key)
        check_history(tx, now, cursor)
        return self._encode_part(tx, origin, after)

    def _encode_part(self, tx: ReadTransaction, origin: Origin, after: int) -> _Part:
        """Read and encode documents. Runs on a thread of the store."""
        batch, revision = origin.batch, origin.cursor.revision
        documents, following = take_page(
            tx.iterate_encoded_documents(batch, after_position=after, as_of=revision),
            document_size,
            limit=_PART,
        )
        complete = following is None
        part = SnapshotPart(reason=origin.reason, documents=documents, complete=complete)
        head = self._encode.snapshot((batch.dataset_id, batch.batch_id), part)
        head += origin.position if complete else self._encode(WatchMessage(revision=revision))
        message = head + self._encode(WatchMessage(server_at=self._clock()))
        return _Part(message, None if complete else documents[-1][0])

"""Snapshots of batches, read in pieces and encoded once for all who begin to watch together.

All pieces are as of one revision: a document that has changed since is read from the log as it was.
So no read is held open, and what a slow watcher has not been sent yet can be read again instead of
being kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

from stagecast.model import (
    Batch,
    SnapshotPart,
    SnapshotReason,
    WatchMessage,
    size_bound,
    take_page,
)
from stagecast.store import BatchName, Reading, Store, get_batch
from stagecast.turns import Turns
from stagecast.watches.log import Cursor, Encode, end_of, find_named

_BYTES = 64 << 20  # of parts that are kept for slow watchers, in all


@dataclass(frozen=True, slots=True)
class _Part:
    """A message, and behind which document the next one begins; `None` after the last."""

    message: bytes
    next_after: int | None


class Snapshot:
    """All documents of a batch as of one revision.

    Attributes:
        cursor: where to go on behind it.
        batch: as of that revision.
    """

    def __init__(
        self, cursor: Cursor, batch: Batch, read: Callable[[int], AsyncIterator[_Part]]
    ) -> None:
        self.cursor = cursor
        self.batch = batch
        self._read = read
        self._kept: list[_Part] = []
        self._more = asyncio.Event()
        self._reading = asyncio.create_task(self._keep())

    @property
    def size(self) -> int:
        """How many bytes of it are kept."""
        return sum(len(part.message) for part in self._kept)

    @property
    def is_read(self) -> bool:
        """Whether no more of it will be kept."""
        return self._reading.done()

    async def wait_until_read(self) -> None:
        """Wait until no more is read for everybody; what cannot be read is told to each watcher."""
        await asyncio.wait((self._reading,))

    def drop(self) -> None:
        """Keep nothing: who is not through reads the rest for itself."""
        self._kept = []

    async def messages(self) -> AsyncGenerator[bytes]:
        """Yield the messages; only the last bears a token."""
        sent = 0
        after: int | None = -1
        while after is not None:
            while sent >= len(self._kept) and not self._reading.done():
                await self._more.wait()
            if sent >= len(self._kept):
                break
            part = self._kept[sent]
            yield part.message
            sent, after = sent + 1, part.next_after
        if after is not None:
            async for part in self._read(after):
                yield part.message

    async def _keep(self) -> None:
        """Read everything, part by part."""
        # Whatever goes wrong, each watcher reads the rest for itself, and is told.
        with contextlib.suppress(Exception):
            async for part in self._read(-1):
                self._kept.append(part)
                self._ring()
        self._ring()

    def _ring(self) -> None:
        """Wake all who wait; those who come now wait for the next part."""
        self._more.set()
        self._more = asyncio.Event()


class Snapshots:
    """Takes snapshots, one at a time of each batch; who asks meanwhile shares the next."""

    def __init__(self, store: Store, *, encode: Encode, clock: Callable[[], int]) -> None:
        self._store = store
        self._encode = encode
        self._clock = clock
        self._turns: Turns[Snapshot] = Turns()
        self._newest: weakref.WeakValueDictionary[BatchName, Snapshot] = (
            weakref.WeakValueDictionary()
        )
        self._kept: list[weakref.ref[Snapshot]] = []

    async def take(self, name: BatchName, reason: SnapshotReason) -> Snapshot:
        """Return a snapshot that was begun after this was called.

        Raises:
            BatchNotFound: there is no such batch.
        """
        return await self._turns.share((name, reason), lambda: self._take(name, reason))

    async def _take(self, name: BatchName, reason: SnapshotReason) -> Snapshot:
        before = self._newest.get(name)
        if before is not None:
            await before.wait_until_read()
        self._drop_oldest()
        cursor, batch = await self._store.read(partial(_begin, name=name))
        snapshot = Snapshot(cursor, batch, partial(self._read, cursor, batch, reason))
        self._newest[name] = snapshot
        self._kept.append(weakref.ref(snapshot))
        return snapshot

    async def _read(
        self, cursor: Cursor, batch: Batch, reason: SnapshotReason, after: int
    ) -> AsyncIterator[_Part]:
        following: int | None = after
        while following is not None:
            part = await self._store.read(
                partial(self._read_part, cursor=cursor, batch=batch, reason=reason, after=following)
            )
            yield part
            following = part.next_after

    def _read_part(
        self, tx: Reading, cursor: Cursor, batch: Batch, reason: SnapshotReason, after: int
    ) -> _Part:
        """Read a part and encode it. Runs on a thread of the store."""
        name = (batch.dataset_id, batch.batch_id)
        now = find_named(tx, name, cursor.key)
        documents, following = take_page(
            tx.iterate_documents(now, after_position=after, as_of=cursor.revision),
            size_bound,
            most=batch.counts.total,
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

    def _drop_oldest(self) -> None:
        """Keep the newest snapshots that somebody still needs, up to so many bytes in all."""
        needed = [kept for kept in (ref() for ref in self._kept) if kept is not None]
        bytes_kept = sum(kept.size for kept in needed)
        for oldest in needed:
            if bytes_kept > _BYTES and oldest.is_read:
                bytes_kept -= oldest.size
                oldest.drop()
        self._kept = [weakref.ref(kept) for kept in needed if kept.size or not kept.is_read]


def _begin(tx: Reading, name: BatchName) -> tuple[Cursor, Batch]:
    batch = get_batch(tx, *name)
    return end_of(tx, batch), batch

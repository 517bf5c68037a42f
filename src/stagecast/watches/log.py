"""The log of a batch in pages: the messages between one cursor and the next.

A page is encoded entry by entry, so that watchers can share it wherever in it they start: the bytes
of repeated fields can be concatenated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from stagecast.errors import BatchDeleted, TokenExpired
from stagecast.escaping import quote
from stagecast.model import (
    Batch,
    Document,
    EncodedTransition,
    ResumeToken,
    SnapshotPart,
    WatchMessage,
    batch_at,
    batch_state,
    size_bound,
    take_page,
    transition_size,
)
from stagecast.store import BatchName, ReadTransaction, get_write_id


class Encode(Protocol):
    """Encodes messages, or pieces of them that are joined byte by byte."""

    def __call__(self, message: WatchMessage) -> bytes:
        """Return a message, or a piece of one."""
        ...

    def transitions(
        self, name: BatchName, transitions: Iterable[EncodedTransition]
    ) -> Sequence[bytes]:
        """Return transitions, each as a piece of a message."""
        ...

    def snapshot(self, name: BatchName, part: SnapshotPart) -> bytes:
        """Return a part of a snapshot as a piece of a message."""
        ...


_PAGE = 1_000  # transitions, or counters, in one read
_EXTRA_BYTES = 1 << 16  # of cached messages, beyond the size of the entries: room for batches


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """The position of a watcher in the log and in the counters."""

    key: int
    revision: int
    write_id: int
    progress_seq: int
    server_epoch: int

    def token(self, name: BatchName) -> str:
        """Return the resume token of this position."""
        return ResumeToken(
            dataset_id=name[0],
            batch_id=name[1],
            revision=self.revision,
            write_id=self.write_id,
            progress_seq=self.progress_seq,
            server_epoch=self.server_epoch,
        ).encode()


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """The result of one read after a cursor: encoded entries with their revision or progress_seq.

    `entry_bytes` is the size of all entries, and `batch` is as of `after`. `whole`: the last
    transition is the last of its call. `caught_up`: the read reached the end of the log. `ended`:
    the batch was terminal then.
    """

    before: Cursor
    after: Cursor
    transitions: Sequence[tuple[int, bytes]]
    progress: Sequence[tuple[int, bytes]]
    entry_bytes: int
    batch: Batch
    whole: bool
    caught_up: bool
    ended: bool
    _messages: dict[tuple[int, int, bool], bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Size in bytes: entries, and the messages cached of them."""
        return self.entry_bytes + sum(map(len, self._messages.values()))

    def has_news_after(self, cursor: Cursor, *, progress: bool) -> bool:
        """Return whether it has entries after a cursor, counters included with `progress`."""
        return self.after.revision > cursor.revision or (
            progress and bool(self.progress) and self.progress[-1][0] > cursor.progress_seq
        )

    def advance(self, cursor: Cursor, *, progress: bool) -> Cursor:
        """Return the cursor after this page was sent; counters that were not sent stay pending."""
        if progress:
            return self.after
        return replace(cursor, revision=self.after.revision, write_id=self.after.write_id)

    def message(
        self, cursor: Cursor, *, progress: bool, encode: Encode, clock: Callable[[], int]
    ) -> bytes:
        """Return the message for a watcher at this cursor, with its next resume token."""
        variant = (cursor.revision, cursor.progress_seq, progress)
        message = self._messages.get(variant)
        if message is None:
            pieces = self._pieces(cursor, progress=progress, encode=encode, now=clock())
            message = b"".join(pieces)
            # Room for one message with all entries, that of the watchers in step, or some shorter.
            if self.size + len(message) <= 2 * self.entry_bytes + _EXTRA_BYTES:
                self._messages[variant] = message
        return message

    def _pieces(
        self, cursor: Cursor, *, progress: bool, encode: Encode, now: int
    ) -> Iterable[bytes]:
        yield from (entry for revision, entry in self.transitions if revision > cursor.revision)
        if progress:
            yield from (
                entry for progress_seq, entry in self.progress if progress_seq > cursor.progress_seq
            )
        name = (self.batch.dataset_id, self.batch.batch_id)
        token = self.advance(cursor, progress=progress).token(name) if self.whole else ""
        yield encode(
            WatchMessage(
                batch=self.batch if self.whole else None,
                revision=self.after.revision,
                resume_token=token,
                server_at=now,
            )
        )


def end_cursor(tx: ReadTransaction, batch: Batch) -> Cursor:
    """Return the cursor at the end of a batch's log."""
    return Cursor(
        key=batch.key,
        revision=batch.revision,
        write_id=get_write_id(tx, batch),
        progress_seq=batch.progress_seq,
        server_epoch=batch.server_epoch,
    )


def token_expired(batch: Batch, revision: int) -> TokenExpired:
    """Return the error for a token older than the retained log."""
    return TokenExpired(
        f"resume token expired: revision {revision} of batch {quote(batch.batch_id)} is no longer "
        f"retained (current revision: {batch.revision})",
        dataset_id=batch.dataset_id,
        batch_id=batch.batch_id,
        revision=revision,
    )


def get_same_batch(tx: ReadTransaction, name: BatchName, key: int) -> Batch:
    """Return the batch with this name and key.

    Raises:
        BatchDeleted: it was deleted; a new batch may have its name.
    """
    batch = tx.find_batch(*name)
    if batch is None or batch.key != key:
        raise BatchDeleted(*name)
    return batch


def read_page(
    tx: ReadTransaction, name: BatchName, cursor: Cursor, *, progress: bool, encode: Encode
) -> Page:
    """Read a page of the log after a cursor, and at the end of the log the counters.

    Raises:
        BatchDeleted: the batch was deleted.
        TokenExpired: the next transition is no longer retained.
    """
    batch = get_same_batch(tx, name, cursor.key)
    log = tx.iterate_encoded_transitions(batch, after_revision=cursor.revision)
    transitions, whole, more = _cut_page(log)
    if transitions and transitions[0].revision != cursor.revision + 1:
        raise token_expired(batch, cursor.revision)
    after = cursor
    if transitions:
        last = transitions[-1]
        after = replace(after, revision=last.revision, write_id=last.write_id)
    counted: Sequence[tuple[int, Document]] = ()
    if progress and not more:
        counted, progress_seq, more = _read_progress(tx, batch, cursor.progress_seq)
        after = replace(after, progress_seq=progress_seq, server_epoch=batch.server_epoch)
    entries = encode.transitions(name, transitions)
    moves = [(t.revision, entry) for t, entry in zip(transitions, entries, strict=True)]
    counters = [(progress_seq, encode(WatchMessage(progress=(d,)))) for progress_seq, d in counted]
    return Page(
        before=cursor,
        after=after,
        transitions=moves,
        progress=counters,
        entry_bytes=sum(len(entry) for _, entry in (*moves, *counters)),
        batch=_batch_as_of(tx, batch, after.revision),
        whole=whole,
        caught_up=not more,
        ended=not more and batch_state(batch).terminal,
    )


def _batch_as_of(tx: ReadTransaction, batch: Batch, revision: int) -> Batch:
    """Return the batch as of a revision of its log."""
    if revision == batch.revision:
        return batch
    return batch_at(batch, next(tx.iterate_transitions(batch, after_revision=revision - 1)))


def _read_progress(
    tx: ReadTransaction, batch: Batch, progress_seq: int
) -> tuple[list[tuple[int, Document]], int, bool]:
    """Return a page of counters after a progress_seq, the last one read, whether more follow."""
    counted = tx.iterate_progress(batch, after_seq=progress_seq)
    page, following = take_page(counted, lambda pair: size_bound(pair[1]), limit=_PAGE)
    reached = page[-1][0] if following else batch.progress_seq
    return page, reached, following is not None


def _cut_page(log: Iterable[EncodedTransition]) -> tuple[list[EncodedTransition], bool, bool]:
    """Return the transitions of a page, whether they end with a call, and whether more follow.

    A page ends where a call ends; only a call larger than a page is split.
    """
    page, following = take_page(log, transition_size, limit=_PAGE)
    if following is None or page[-1].write_id != following.write_id:
        return page, True, following is not None
    whole = [earlier for earlier in page if earlier.write_id != following.write_id]
    return whole or page, bool(whole), True

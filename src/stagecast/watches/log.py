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
    MESSAGE_BYTES,
    Batch,
    Document,
    EncodedTransition,
    ResumeToken,
    SnapshotPart,
    Transition,
    WatchMessage,
    batch_at,
    batch_state,
    size_bound,
    take_page,
    transition_size,
)
from stagecast.store import BatchName, Committed, ReadTransaction, check_history, get_write_id
from stagecast.watches.tail import LogPage


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

    def committed(self, name: BatchName, transitions: Iterable[Transition]) -> Sequence[bytes]:
        """Return transitions that were not read, each as a piece of a message."""
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

    @classmethod
    def of(cls, token: ResumeToken, key: int) -> Cursor:
        """Return the position of a token in the log of a batch."""
        return cls(
            key=key,
            revision=token.revision,
            write_id=token.write_id,
            progress_seq=token.progress_seq,
            server_epoch=token.server_epoch,
        )

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


@dataclass(frozen=True, slots=True)
class Sent:
    """A message, and the piece of it that tells the position after it: batch, revision and token.

    Between parts of a call there is no position.
    """

    message: bytes
    position: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Page(LogPage[Cursor]):
    """The entries after a cursor, encoded, with their revision or progress_seq.

    `entry_bytes` is the size of all entries, and `batch` is as of `after`. `whole`: the last
    transition is the last of its call. `ended`: it has the end of the log, where the batch was
    terminal; counters may follow unless it has `caught_up`.
    """

    transitions: Sequence[tuple[int, bytes]]
    progress: Sequence[tuple[int, bytes]]
    entry_bytes: int
    batch: Batch
    whole: bool
    ended: bool
    _messages: dict[tuple[int, int, bool], Sent] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Size in bytes: entries, and the messages cached of them."""
        return self.entry_bytes + sum(
            len(sent.message) + len(sent.position) for sent in self._messages.values()
        )

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
    ) -> Sent:
        """Return the message for a watcher at this cursor, with its next resume token."""
        variant = (cursor.revision, cursor.progress_seq, progress)
        sent = self._messages.get(variant)
        if sent is None:
            after = self.advance(cursor, progress=progress)
            position = encode_position(self.batch, after, encode) if self.whole else b""
            rest = encode(
                WatchMessage(revision=0 if position else after.revision, server_at=clock())
            )
            entries = self._entries_after(cursor, progress=progress)
            sent = Sent(b"".join((*entries, position, rest)), position)
            # Room for one message with all entries, that of the watchers in step, or some shorter.
            if self.size + len(sent.message) <= 2 * self.entry_bytes + _EXTRA_BYTES:
                self._messages[variant] = sent
        return sent

    def _entries_after(self, cursor: Cursor, *, progress: bool) -> Iterable[bytes]:
        yield from (entry for revision, entry in self.transitions if revision > cursor.revision)
        if progress:
            yield from (
                entry for progress_seq, entry in self.progress if progress_seq > cursor.progress_seq
            )


def encode_position(batch: Batch, cursor: Cursor, encode: Encode) -> bytes:
    """Return the piece of a message that tells a position: batch, revision and resume token."""
    return encode(
        WatchMessage(
            batch=batch,
            revision=cursor.revision,
            resume_token=cursor.token((batch.dataset_id, batch.batch_id)),
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
        HistoryChanged: the cursor is of another history.
    """
    batch = get_same_batch(tx, name, cursor.key)
    check_history(tx, batch, cursor)
    log = tx.iterate_encoded_transitions(batch, after_revision=cursor.revision)
    transitions, whole, more = _cut_page(log)
    if transitions and transitions[0].revision != cursor.revision + 1:
        raise token_expired(batch, cursor.revision)
    after = cursor
    if transitions:
        last = transitions[-1]
        after = replace(after, revision=last.revision, write_id=last.write_id)
    ended = not more and batch_state(batch).terminal
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
        ended=ended,
    )


def committed_page(
    name: BatchName, cursor: Cursor, commits: Sequence[Committed], *, encode: Encode
) -> Page | None:
    """Return the page after a cursor without reading it, from commits of this process.

    `None` if they do not continue the cursor's history without a gap, e.g. since another process
    has written between, if there are counters to read, or if they do not fit into a message.
    Also if the batch has ended: that a watch ends is decided by a read, as another process may have
    reopened the batch since.
    """
    commits = [one for one in commits if one.batch.revision > cursor.revision]
    after = cursor
    for one in commits:
        if one.before != (after.revision, after.write_id) or not _continues(cursor, one.batch):
            return None
        last = one.transitions[-1]
        after = replace(after, revision=last.revision, write_id=last.write_id)
    if not commits or batch_state(commits[-1].batch).terminal:
        return None
    transitions = [transition for one in commits for transition in one.transitions]
    entries = encode.committed(name, transitions)
    size = sum(map(len, entries))
    if size > MESSAGE_BYTES:
        return None
    batch = commits[-1].batch
    return Page(
        before=cursor,
        after=after,
        transitions=[(t.revision, entry) for t, entry in zip(transitions, entries, strict=True)],
        progress=(),
        entry_bytes=size,
        batch=batch,
        whole=True,
        caught_up=True,
        ended=False,
    )


def _continues(cursor: Cursor, batch: Batch) -> bool:
    """Return whether a batch is the one of a cursor, with the same counters."""
    counters = (cursor.progress_seq, cursor.server_epoch)
    return batch.key == cursor.key and (batch.progress_seq, batch.server_epoch) == counters


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

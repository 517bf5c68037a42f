"""The log of a batch in pages: what a watcher is sent between one cursor and the next.

A page is encoded entry by entry, so that watchers share it wherever in it they begin: the bytes of
repeated fields are joined as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from stagecast.errors import BatchDeleted, TokenExpired
from stagecast.escaping import quote
from stagecast.model import (
    Batch,
    Document,
    ResumeToken,
    Transition,
    WatchMessage,
    batch_at,
    batch_state,
    size_bound,
    take_page,
)
from stagecast.store import BatchName, ReadTransaction, get_write_id

Encode = Callable[[WatchMessage], bytes]
"""Writes a message, or a piece of one, as it goes over the wire."""

_PAGE = 1_000  # transitions, or counters, that are read at once
_BEYOND = 1 << 16  # bytes of messages that are kept beside those of the entries: room for batches


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """How far a watcher is: in the log, and in the counters."""

    key: int
    revision: int
    write_id: int
    progress_seq: int
    server_epoch: int

    def token(self, name: BatchName) -> str:
        """Return the resume token that says so."""
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
    """What one read found after a cursor, in encoded entries with their revisions or serials.

    `entry_bytes` is the size of all entries, and `batch` is as of `after`. `whole` says that the
    last transition is the last of its call, `caught_up` that the read found everything there was,
    and `over` that the batch was terminal then.
    """

    before: Cursor
    after: Cursor
    transitions: Sequence[tuple[int, bytes]]
    progress: Sequence[tuple[int, bytes]]
    entry_bytes: int
    batch: Batch
    whole: bool
    caught_up: bool
    over: bool
    _messages: dict[tuple[int, int, bool], bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many bytes it has: entries, and the messages that are kept of them."""
        return self.entry_bytes + sum(map(len, self._messages.values()))

    def concerns(self, cursor: Cursor, *, progress: bool) -> bool:
        """Tell whether it has news for a watcher who is there and wants counters or not."""
        return self.after.revision > cursor.revision or (
            progress and bool(self.progress) and self.progress[-1][0] > cursor.progress_seq
        )

    def advance(self, cursor: Cursor, *, progress: bool) -> Cursor:
        """Return where a watcher is who has been sent it; counters that were not sent stay due."""
        if progress:
            return self.after
        return replace(cursor, revision=self.after.revision, write_id=self.after.write_id)

    def message(
        self, cursor: Cursor, *, progress: bool, encode: Encode, clock: Callable[[], int]
    ) -> bytes:
        """Return what a watcher who is there is sent, with the token to go on with."""
        variant = (cursor.revision, cursor.progress_seq, progress)
        message = self._messages.get(variant)
        if message is None:
            pieces = self._pieces(cursor, progress=progress, encode=encode, now=clock())
            message = b"".join(pieces)
            # That of those who are in step, which has all entries once more, or some shorter ones.
            if self.size + len(message) <= 2 * self.entry_bytes + _BEYOND:
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


def end_of(tx: ReadTransaction, batch: Batch) -> Cursor:
    """Return the cursor of who has seen all that there is of a batch."""
    return Cursor(
        key=batch.key,
        revision=batch.revision,
        write_id=get_write_id(tx, batch),
        progress_seq=batch.progress_seq,
        server_epoch=batch.server_epoch,
    )


def token_expired(batch: Batch, revision: int) -> TokenExpired:
    """Return what is told to who goes on from a revision that the log does not reach back to."""
    return TokenExpired(
        f"the token's revision {revision} cannot be gone on from; batch "
        f"{quote(batch.batch_id)} is at {batch.revision}, and its older history was let go",
        dataset_id=batch.dataset_id,
        batch_id=batch.batch_id,
        revision=revision,
    )


def find_named(tx: ReadTransaction, name: BatchName, key: int) -> Batch:
    """Return the batch that a cursor is of.

    Raises:
        BatchDeleted: it is gone; another one may have its name.
    """
    batch = tx.find_batch(*name)
    if batch is None or batch.key != key:
        raise BatchDeleted(*name)
    return batch


def read_page(
    tx: ReadTransaction, name: BatchName, cursor: Cursor, *, progress: bool, encode: Encode
) -> Page:
    """Read what lies after a cursor: a page of the log, and at its end the counters.

    Raises:
        BatchDeleted: the batch is gone.
        TokenExpired: what comes next was let go.
    """
    batch = find_named(tx, name, cursor.key)
    log = tx.iterate_transitions(batch, after_revision=cursor.revision)
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
    batch = batch_at(batch, transitions[-1]) if transitions else batch
    moves = [(t.revision, encode(WatchMessage(transitions=(t,)))) for t in transitions]
    counters = [(progress_seq, encode(WatchMessage(progress=(d,)))) for progress_seq, d in counted]
    return Page(
        before=cursor,
        after=after,
        transitions=moves,
        progress=counters,
        entry_bytes=sum(len(entry) for _, entry in (*moves, *counters)),
        batch=batch,
        whole=whole,
        caught_up=not more,
        over=not more and batch_state(batch).terminal,
    )


def _read_progress(
    tx: ReadTransaction, batch: Batch, progress_seq: int
) -> tuple[list[tuple[int, Document]], int, bool]:
    """Read the newest counters after a serial: them, how far that reached, whether more follow."""
    counted = tx.iterate_progress(batch, after_seq=progress_seq)
    page, following = take_page(counted, lambda pair: size_bound(pair[1]), limit=_PAGE)
    reached = page[-1][0] if following else batch.progress_seq
    return page, reached, following is not None


def _cut_page(log: Iterable[Transition]) -> tuple[list[Transition], bool, bool]:
    """Take a page of the log: the transitions, whether they end with a call, whether more follow.

    The page ends where a call ends; only a call that is larger than a page is cut in two.
    """
    page, following = take_page(log, lambda t: size_bound(t.document), limit=_PAGE)
    if following is None or page[-1].write_id != following.write_id:
        return page, True, following is not None
    whole = [earlier for earlier in page if earlier.write_id != following.write_id]
    return whole or page, bool(whole), True

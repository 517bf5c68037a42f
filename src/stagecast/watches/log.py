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
from stagecast.store import BatchName, Reading, get_call

Encode = Callable[[WatchMessage], bytes]
"""Writes a message, or a piece of one, as it goes over the wire."""

_PAGE = 1_000  # transitions, or counters, that are read at once
_BEYOND = 1 << 16  # bytes of messages that are kept beside those of the entries: room for batches


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """How far a watcher is: in the log, and in the counters."""

    key: int
    revision: int
    call: int
    serial: int
    mark: int

    def token(self, name: BatchName) -> str:
        """Return the resume token that says so."""
        return ResumeToken(
            dataset_id=name[0],
            batch_id=name[1],
            revision=self.revision,
            call=self.call,
            serial=self.serial,
            mark=self.mark,
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
            progress and bool(self.progress) and self.progress[-1][0] > cursor.serial
        )

    def advance(self, cursor: Cursor, *, progress: bool) -> Cursor:
        """Return where a watcher is who has been sent it; counters that were not sent stay due."""
        if progress:
            return self.after
        return replace(cursor, revision=self.after.revision, call=self.after.call)

    def message(
        self, cursor: Cursor, *, progress: bool, encode: Encode, clock: Callable[[], int]
    ) -> bytes:
        """Return what a watcher who is there is sent, with the token to go on with."""
        variant = (cursor.revision, cursor.serial, progress)
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
            yield from (entry for serial, entry in self.progress if serial > cursor.serial)
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


def end_of(tx: Reading, batch: Batch) -> Cursor:
    """Return the cursor of who has seen all that there is of a batch."""
    return Cursor(
        key=batch.key,
        revision=batch.revision,
        call=get_call(tx, batch),
        serial=batch.progress_serial,
        mark=batch.progress_mark,
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


def find_named(tx: Reading, name: BatchName, key: int) -> Batch:
    """Return the batch that a cursor is of.

    Raises:
        BatchDeleted: it is gone; another one may have its name.
    """
    batch = tx.find_batch(*name)
    if batch is None or batch.key != key:
        raise BatchDeleted(*name)
    return batch


def read_page(
    tx: Reading, name: BatchName, cursor: Cursor, *, progress: bool, encode: Encode
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
        after = replace(after, revision=last.revision, call=last.call)
    counted: Sequence[tuple[int, Document]] = ()
    if progress and not more:
        counted, serial, more = _read_progress(tx, batch, cursor.serial)
        after = replace(after, serial=serial, mark=batch.progress_mark)
    batch = batch_at(batch, transitions[-1]) if transitions else batch
    moves = [(t.revision, encode(WatchMessage(transitions=(t,)))) for t in transitions]
    counters = [(serial, encode(WatchMessage(progress=(d,)))) for serial, d in counted]
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
    tx: Reading, batch: Batch, serial: int
) -> tuple[list[tuple[int, Document]], int, bool]:
    """Read the newest counters after a serial: them, how far that reached, whether more follow."""
    counted = tx.iterate_progress(batch, after_serial=serial)
    page, following = take_page(counted, lambda pair: size_bound(pair[1]), most=_PAGE)
    reached = page[-1][0] if following else batch.progress_serial
    return page, reached, following is not None


def _cut_page(log: Iterable[Transition]) -> tuple[list[Transition], bool, bool]:
    """Take a page of the log: the transitions, whether they end with a call, whether more follow.

    The page ends where a call ends; only a call that is larger than a page is cut in two.
    """
    page, following = take_page(log, lambda t: size_bound(t.document), most=_PAGE)
    if following is None or page[-1].call != following.call:
        return page, True, following is not None
    whole = [earlier for earlier in page if earlier.call != following.call]
    return whole or page, bool(whole), True

"""What is timed: parts of a reading and a writing transaction of the SQLite store.

`due_at` is indexed and says when to look at a document; a sign of life moves only `heard_at`, which
is not, and so costs no more than the row. Whoever looks moves `due_at` on. Batches that are to be
sealed when nobody goes on with them have an index of their own, which most never enter.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence

from stagecast.model import (
    Batch,
    BatchEdit,
    Document,
    DocumentState,
    Timer,
    coalesce_us,
    timeout_us,
)
from stagecast.store.protocol import IdleBatch, Lease, TimerKey
from stagecast.store.sqlite import rows
from stagecast.store.sqlite.connection import Connection

# What a sign of life would do good, by a JSON list of ids; 2 is RUNNING.
_SILENT = """
    SELECT document_id FROM documents
    WHERE batch = ? AND document_id IN (SELECT value FROM json_each(?)) AND state = 2
        AND (stalled OR due_at IS NOT NULL AND heard_at < ?)
"""

# Batches that nobody has added to for so long, in the words of their index.
_IDLE = """
    FROM batches INDEXED BY batches_by_seal
    WHERE seal_after_us > 0 AND NOT sealed AND pending + running + paused = 0
        AND idle_since + seal_after_us <= :until
"""
_IDLE_BATCHES = f"""
    SELECT idle_since, (SELECT dataset_id FROM datasets WHERE id = batches.dataset),
        {rows.listed(rows.BATCH)}
    {_IDLE} ORDER BY idle_since + seal_after_us LIMIT :limit
"""
_SET_IDLE_SINCE = "UPDATE batches SET idle_since = ? WHERE id = ?"
_CAP_IDLE_SINCE = """
    UPDATE batches SET idle_since = :now WHERE seal_after_us > 0 AND idle_since > :now
"""

# Whether anything is due: one step into each index.
_HAS_DUE = f"""
    SELECT EXISTS (SELECT 1 FROM documents WHERE due_at <= :until) OR EXISTS (SELECT 1 {_IDLE})
"""

# Timers in their order behind a place. The batch of those that were deleted has the state 0.
_TIMERS = """
    SELECT documents.batch, documents.position, document_id, heard_at, due_at,
        documents.state, documents.stalled, start_after_us, stall_after_us, fail_after_us,
        batches.state, batches.batch_id, datasets.dataset_id
    FROM documents INDEXED BY documents_by_due
        CROSS JOIN batches ON batches.id = documents.batch
        CROSS JOIN datasets ON datasets.id = batches.dataset
    WHERE due_at <= ? AND (due_at, documents.batch, documents.position) > (?, ?, ?)
    ORDER BY due_at, documents.batch, documents.position LIMIT ?
"""
_FIRST, _NEVER = (-1, -1, -1), 2**63 - 1

# A timer anew.
_SET_TIMER = "UPDATE documents SET heard_at = ?, due_at = ? WHERE batch = ? AND position = ?"

# A sign of life of a document whose silence counts, unless there was one just before; 2 is RUNNING.
_SAVE_HEARTBEAT = """
    UPDATE documents SET heard_at = ?1
    WHERE batch = ?2 AND position = ?3 AND state = 2 AND due_at IS NOT NULL AND heard_at < ?1 - ?4
"""

# Who looks after what is due.
_LEASE = "SELECT holder, renewals, reached_at FROM stall_detector_lease"
_SAVE_LEASE = "UPDATE stall_detector_lease SET holder = ?, renewals = ?, reached_at = ?"

# The timer of a document that was saved begins anew, but a `due_at` that is early enough stays. All
# stays as it is without a time.
SET_TIMER_OF_SAVED = """
    heard_at = coalesce(?1, heard_at), due_at = CASE
        WHEN ?1 IS NULL THEN due_at WHEN due_at IS NULL THEN ?2 ELSE min(due_at, ?2) END
"""


def timer_of_new(batch: Batch, now: int) -> rows.Row:
    """Return `heard_at` and `due_at` of a document that joins a batch."""
    return (now, now + batch.start_after_us) if batch.start_after_us else (None, None)


def timer_of_saved(document: Document, edit: BatchEdit, now: int) -> rows.Row:
    """Return the parameters of `SET_TIMER_OF_SAVED`.

    Counters are a sign of life of who works on a document; where nobody does, they change nothing.
    """
    if document.state is DocumentState.PENDING and not edit.is_moved(document):
        return None, None
    timers = _timeout_us(document.state, document.stalled, edit.batch)
    return now, now + timers if timers else None


def _timeout_us(state: DocumentState, stalled: bool, batch: Batch) -> int:
    return timeout_us(
        state,
        stalled,
        start_after_us=batch.start_after_us,
        stall_after_us=batch.stall_after_us,
        fail_after_us=batch.fail_after_us,
    )


class TimerReads:
    """What a view of one moment tells about timers."""

    _connection: Connection

    def find_silent(
        self, batch: Batch, document_ids: Collection[str], *, before: int
    ) -> Collection[str]:
        names = json.dumps(list(document_ids))
        cursor = self._connection.execute(_SILENT, (batch.key, names, before))
        return {document_id for (document_id,) in cursor}

    def has_due(self, until: int) -> bool:
        [(due,)] = self._connection.execute(_HAS_DUE, {"until": until})
        return bool(due)

    def find_idle(self, until: int, limit: int) -> Sequence[IdleBatch]:
        cursor = self._connection.execute(_IDLE_BATCHES, {"until": until, "limit": limit})
        return [
            IdleBatch(batch=rows.batch_from_row(tuple(row), dataset_id), since=since)
            for since, dataset_id, *row in cursor
        ]

    def find_lease(self) -> Lease:
        [(holder, renewals, reached_at)] = self._connection.execute(_LEASE)
        return Lease(holder=holder, renewals=renewals, reached_at=reached_at)


class TimerWrites:
    """What a transaction that writes does with timers."""

    _connection: Connection

    def find_timers(
        self, *, until: int | None, after: TimerKey | None, limit: int
    ) -> Sequence[Timer]:
        params = (_NEVER if until is None else until, *(after or _FIRST), limit)
        return [_timer_from_row(row) for row in self._connection.execute(_TIMERS, params)]

    def set_timer(self, timer: Timer, *, heard_at: int, due_at: int | None) -> None:
        self._connection.execute(_SET_TIMER, (heard_at, due_at, *timer.key[1:]))

    def set_idle_since(self, batch: Batch, since: int) -> None:
        self._connection.execute(_SET_IDLE_SINCE, (since, batch.key))

    def cap_idle_since(self, now: int) -> None:
        self._connection.execute(_CAP_IDLE_SINCE, {"now": now})

    def save_lease(self, lease: Lease) -> None:
        self._connection.execute(_SAVE_LEASE, (lease.holder, lease.renewals, lease.reached_at))

    def _save_heartbeat(self, batch: Batch, documents: Iterable[Document], now: int) -> None:
        as_one = coalesce_us(batch.stall_after_us)
        self._connection.executemany(
            _SAVE_HEARTBEAT, ((now, batch.key, document.position, as_one) for document in documents)
        )


def _timer_from_row(row: rows.Row) -> Timer:
    key, position, document_id, heard_at, due_at, state, stalled, *rest = row
    start_after_us, stall_after_us, fail_after_us, batch_state, batch_id, dataset_id = rest
    timers = timeout_us(
        DocumentState(state),
        stalled,
        start_after_us=start_after_us,
        stall_after_us=stall_after_us,
        fail_after_us=fail_after_us,
    )
    return Timer(
        dataset_id=dataset_id,
        batch_id=batch_id,
        document_id=document_id,
        key=(due_at, key, position),
        heard_at=heard_at,
        due_at=due_at,
        timeout_us=timers if batch_state else 0,
    )

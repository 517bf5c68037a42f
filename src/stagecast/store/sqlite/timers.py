"""Timers and the lease: parts of a read and a write transaction of the SQLite store.

`due_at` is indexed and is when to check a document. A sign of life moves only `heard_at`, which is
not indexed, so it costs one row update; the check then moves `due_at`. Batches with `seal_after`
have an index of their own, which most never enter.
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

# Documents for which a sign of life has an effect, by a JSON list of ids; 2 is RUNNING.
_SILENT = """
    SELECT document_id FROM documents
    WHERE batch = ? AND document_id IN (SELECT value FROM json_each(?)) AND state = 2
        AND (stalled OR due_at IS NOT NULL AND heard_at < ?)
"""

# Batches that will be sealed; the condition is that of the index.
_IDLE = """
    FROM batches INDEXED BY batches_by_seal
    WHERE seal_after_us > 0 AND NOT sealed AND pending + running + paused = 0
"""
_IDLE_BATCHES = f"""
    SELECT idle_since, (SELECT dataset_id FROM datasets WHERE id = batches.dataset),
        {rows.listed(rows.BATCH)}
    {_IDLE} AND idle_since + seal_after_us <= :until
    ORDER BY idle_since + seal_after_us LIMIT :limit
"""
_SET_IDLE_SINCE = "UPDATE batches SET idle_since = ? WHERE id = ?"
_CAP_IDLE_SINCE = """
    UPDATE batches SET idle_since = :now WHERE seal_after_us > 0 AND idle_since > :now
"""

# The earliest time when anything is due: one lookup in each index.
_NEXT_DUE = f"""
    SELECT min(at) FROM (
        SELECT * FROM (
            SELECT due_at AS at FROM documents WHERE due_at >= 0 ORDER BY due_at LIMIT 1
        ) UNION ALL SELECT * FROM (
            SELECT idle_since + seal_after_us {_IDLE} AND idle_since + seal_after_us >= 0
            ORDER BY idle_since + seal_after_us LIMIT 1
        )
    )
"""

# Timers in order, after a key. Those of deleted batches have the batch state 0.
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

# Set a timer.
_SET_TIMER = "UPDATE documents SET heard_at = ?, due_at = ? WHERE batch = ? AND position = ?"

# A sign of life of a document with a timeout, unless one was just before; 2 is RUNNING.
_SAVE_HEARTBEAT = """
    UPDATE documents SET heard_at = ?1
    WHERE batch = ?2 AND position = ?3 AND state = 2 AND due_at IS NOT NULL AND heard_at < ?1 - ?4
"""

# The lease of the stall detector.
_LEASE = "SELECT holder, renewals, reached_at FROM stall_detector_lease"
_SAVE_LEASE = "UPDATE stall_detector_lease SET holder = ?, renewals = ?, reached_at = ?"

# The timer of a saved document restarts, but an earlier `due_at` stays. Without a time nothing
# changes.
SET_TIMER_OF_SAVED = """
    heard_at = coalesce(?1, heard_at), due_at = CASE
        WHEN ?1 IS NULL THEN due_at WHEN due_at IS NULL THEN ?2 ELSE min(due_at, ?2) END
"""


def timer_of_new(batch: Batch, now: int) -> rows.Row:
    """Return `heard_at` and `due_at` of a new document."""
    return (now, now + batch.start_after_us) if batch.start_after_us else (None, None)


def timer_of_saved(document: Document, edit: BatchEdit, now: int) -> rows.Row:
    """Return the parameters of `SET_TIMER_OF_SAVED`.

    Counters are a sign of life of the worker; on a PENDING document they do not move the timer.
    """
    if document.state is DocumentState.PENDING and not edit.is_moved(document):
        return None, None
    timeout = _timeout_us(document.state, document.stalled, edit.batch)
    return now, now + timeout if timeout else None


def _timeout_us(state: DocumentState, stalled: bool, batch: Batch) -> int:
    return timeout_us(
        state,
        stalled,
        start_after_us=batch.start_after_us,
        stall_after_us=batch.stall_after_us,
        fail_after_us=batch.fail_after_us,
    )


class TimerReads:
    """Reads of timers."""

    _connection: Connection

    def find_silent(
        self, batch: Batch, document_ids: Collection[str], *, before: int
    ) -> Collection[str]:
        names = json.dumps(list(document_ids))
        cursor = self._connection.execute(_SILENT, (batch.key, names, before))
        return {document_id for (document_id,) in cursor}

    def find_next_due(self) -> int | None:
        [(due_at,)] = self._connection.execute(_NEXT_DUE)
        return None if due_at is None else int(due_at)

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
    """Writes of timers."""

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

    def _save_heartbeats(self, edits: Iterable[BatchEdit], now: int) -> None:
        """Save the signs of life of documents that did not change."""
        self._connection.executemany(
            _SAVE_HEARTBEAT,
            (
                (now, edit.batch.key, document.position, coalesce_us(edit.batch.stall_after_us))
                for edit in edits
                for document_id, document in edit.heartbeats.items()
                if document_id not in edit.changed
            ),
        )


def _timer_from_row(row: rows.Row) -> Timer:
    key, position, document_id, heard_at, due_at, state, stalled, *rest = row
    start_after_us, stall_after_us, fail_after_us, batch_state, batch_id, dataset_id = rest
    timeout = timeout_us(
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
        timeout_us=timeout if batch_state else 0,
    )

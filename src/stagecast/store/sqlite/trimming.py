"""Retention of history: parts of a read and a write transaction.

`batches.first_revision` is the first revision that the log still has. Each query has an index of
its own over ended batches, so that a scan without results is one index lookup.
"""

from __future__ import annotations

from collections.abc import Sequence

from stagecast.model import Batch
from stagecast.store.protocol import HistoryLimit
from stagecast.store.sqlite import rows
from stagecast.store.sqlite.connection import Connection

# A batch with more history than a limit allows; `state` is 0 for a deleted one.
_EXCESS = """
    SELECT id, revision, first_revision FROM batches INDEXED BY {index}
    WHERE ended_at IS NOT NULL AND ended_at <= :until AND {has_more} AND state > 0 LIMIT 1
"""
# A limit of one transition is about age, and most ended batches are younger.
_EXCESS_BY_AGE = _EXCESS.format(index="batches_by_history", has_more="first_revision < revision")
_EXCESS_BY_LENGTH = _EXCESS.format(
    index="batches_by_length", has_more="revision - first_revision >= :keep"
)

# Delete the older end of a log.
_TRIM = "DELETE FROM transitions WHERE batch = ? AND revision < ?"
_SAVE_FIRST_REVISION = "UPDATE batches SET first_revision = ? WHERE id = ?"

# Ended batches, earliest first.
_ENDED = f"""
    SELECT datasets.dataset_id, {rows.listed(rows.BATCH, "batches")}
    FROM batches INDEXED BY batches_by_age CROSS JOIN datasets ON datasets.id = batches.dataset
    WHERE ended_at IS NOT NULL AND ended_at <= ? AND state > 0 ORDER BY ended_at LIMIT ?
"""

# Where the log of a batch begins.
_FIRST_REVISION = "SELECT min(revision) FROM transitions WHERE batch = ?"


class TrimmingReads:
    """Reads of ended batches and excess history."""

    _connection: Connection

    def has_excess(self, limit: HistoryLimit) -> bool:
        return self._find_excess(limit) is not None

    def find_ended(self, until: int, limit: int) -> Sequence[Batch]:
        cursor = self._connection.execute(_ENDED, (until, limit))
        return [rows.batch_from_row(tuple(row), dataset_id) for dataset_id, *row in cursor]

    def _find_excess(self, limit: HistoryLimit) -> tuple[int, int, int] | None:
        sql = _EXCESS_BY_AGE if limit.keep == 1 else _EXCESS_BY_LENGTH
        params = {"until": limit.ended_until, "keep": limit.keep}
        row: tuple[int, int, int] | None = self._connection.execute(sql, params).fetchone()
        return row

    def _is_log_whole(self, batch: Batch) -> bool:
        [(first,)] = self._connection.execute(_FIRST_REVISION, (batch.key,))
        return bool(first == 1)


class TrimmingWrites(TrimmingReads):
    """Deletion of excess history."""

    def trim(self, limit: HistoryLimit, max_rows: int) -> int:
        left = max_rows
        while left > 0 and (excess := self._find_excess(limit)):
            key, revision, old_first = excess
            new_first = min(old_first + left, revision - limit.keep + 1)
            self._connection.execute(_TRIM, (key, new_first))
            self._connection.execute(_SAVE_FIRST_REVISION, (new_first, key))
            left -= new_first - old_first
        return max_rows - left

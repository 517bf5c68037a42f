"""What is let go of what has ended: parts of a reading and a writing transaction.

`batches.kept_from` is the first revision that the log still has. Each question has an index of its
own that holds only batches that have ended, so that looking where there is nothing to do is one
step into it.
"""

from __future__ import annotations

from collections.abc import Sequence

from stagecast.model import Batch
from stagecast.store.protocol import HistoryLimit
from stagecast.store.sqlite import rows
from stagecast.store.sqlite.connection import Connection

# A batch with more history than a limit lets it keep; `state` is 0 where it was deleted.
_EXCESS = """
    SELECT id, revision, kept_from FROM batches INDEXED BY {index}
    WHERE ended_at IS NOT NULL AND ended_at <= :until AND {has_more} AND state > 0 LIMIT 1
"""
# A limit that leaves one transition is about age, and most that have ended are younger.
_EXCESS_BY_AGE = _EXCESS.format(index="batches_by_history", has_more="kept_from < revision")
_EXCESS_BY_LENGTH = _EXCESS.format(
    index="batches_by_length", has_more="revision - kept_from >= :keep"
)

# The older end of a log goes.
_TRIM = "DELETE FROM transitions WHERE batch = ? AND revision < ?"
_SAVE_KEPT_FROM = "UPDATE batches SET kept_from = ? WHERE id = ?"

# Those that ended first.
_ENDED = f"""
    SELECT datasets.dataset_id, {rows.listed(rows.BATCH, "batches")}
    FROM batches INDEXED BY batches_by_age CROSS JOIN datasets ON datasets.id = batches.dataset
    WHERE ended_at IS NOT NULL AND ended_at <= ? AND state > 0 ORDER BY ended_at LIMIT ?
"""

# Where the log of a batch begins.
_KEPT_FROM = "SELECT min(revision) FROM transitions WHERE batch = ?"


class TrimmingReads:
    """What a view of one moment tells about what may be let go."""

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
        [(first,)] = self._connection.execute(_KEPT_FROM, (batch.key,))
        return bool(first == 1)


class TrimmingWrites(TrimmingReads):
    """What a transaction that writes lets go."""

    def trim(self, limit: HistoryLimit, max_rows: int) -> int:
        left = max_rows
        while left > 0 and (excess := self._find_excess(limit)):
            key, revision, kept_from = excess
            edge = min(kept_from + left, revision - limit.keep + 1)
            self._connection.execute(_TRIM, (key, edge))
            self._connection.execute(_SAVE_KEPT_FROM, (edge, key))
            left -= edge - kept_from
        return max_rows - left

"""Invariants of a store file, as SQL that finds violations; run by `stagecast check`.

All queries run in one transaction, on a consistent snapshot while servers write.
Deleted rows that are not swept yet are skipped: their state is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from stagecast.escaping import quote
from stagecast.failures import reason_of
from stagecast.model import BatchState, DocumentState, Stage, TransitionKind
from stagecast.store.sqlite import rows
from stagecast.store.sqlite.connection import Connection, DriverError
from stagecast.store.sqlite.database_files import check_current, open_existing


class Invariant(Protocol):
    """A condition on the rows of the file."""

    @property
    def sql(self) -> str:
        """A query for the rows that violate it."""
        ...

    def describe(self, row: rows.Row) -> str:
        """Describe the violation in a row."""
        ...


@dataclass(frozen=True, slots=True)
class _NoRows:
    """A query must have no rows; each has `ids` ids and the values for `sentence`."""

    ids: int
    sentence: str
    sql: str

    def describe(self, row: rows.Row) -> str:
        """Describe the violation in a row."""
        sentence = self.sentence.format(*row[self.ids :])
        return f"{_describe_ids(row[: self.ids])}: {sentence}" if self.ids else sentence


@dataclass(frozen=True, slots=True)
class _Equal:
    """Columns must have expected values; a row has `ids` ids, the values, the expected ones."""

    ids: int
    names: Sequence[str]
    sql: str

    def describe(self, row: rows.Row) -> str:
        """Describe the violation in a row."""
        ids, values = row[: self.ids], row[self.ids :]
        pairs = zip(self.names, values[: len(self.names)], values[len(self.names) :], strict=True)
        wrong = (
            f"{name} is {actual!r}, not {expected!r}"
            for name, actual, expected in pairs
            if actual != expected
        )
        return f"{_describe_ids(ids)}: {', '.join(wrong)}"


def _describe_ids(ids: Sequence[object]) -> str:
    kinds = ("dataset", "batch", "document")
    return " of ".join(
        f"{kind} {quote(str(one))}" for kind, one in reversed([*zip(kinds, ids, strict=False)])
    )


def _equal(
    ids: Sequence[str], expected: Mapping[str, str], tables: str, where: str = "true"
) -> _Equal:
    """Return the invariant that columns equal SQL expressions, in the rows FROM tables WHERE."""
    columns, expressions = ", ".join(expected), ", ".join(expected.values())
    return _Equal(
        len(ids),
        [column.partition(".")[2] for column in expected],
        f"SELECT {', '.join(ids)}, {columns}, {expressions} FROM {tables} "
        f"WHERE {where} AND ({columns}) IS NOT ({expressions})",
    )


def _no_rows(
    ids: Sequence[str], sentence: str, columns: Sequence[str], tables: str, where: str
) -> _NoRows:
    """Return the invariant that there are no rows FROM tables WHERE."""
    return _NoRows(
        len(ids), sentence, f"SELECT {', '.join((*ids, *columns))} FROM {tables} WHERE {where}"
    )


_DATASET = ("datasets.dataset_id",)
_BATCH = (*_DATASET, "batches.batch_id")
_DOCUMENT = (*_BATCH, "documents.document_id")
_BATCHES = "datasets JOIN batches ON batches.dataset = datasets.id AND batches.state > 0"
_OF_DATASET = "batches WHERE batches.dataset = datasets.id AND batches.state > 0"
_DOCUMENTS = f"{_BATCHES} JOIN documents ON documents.batch = batches.id"
_TRANSITIONS = f"{_BATCHES} JOIN transitions ON transitions.batch = batches.id"

_STATES = ("pending", "running", "paused", "succeeded", "failed", "stopped")
_COUNTED = {
    **{name: f"sum(state = {DocumentState[name.upper()]:d})" for name in _STATES},
    "stalled_documents": "sum(stalled)",
    "segments_completed": "sum(completed_segments)",
    "segments_total": "sum(total_segments)",
    "segments_unknown": "sum(total_segments IS NULL)",
}
_SUMMED = {
    "batches": "count(*)",
    "open_batches": f"sum(state < {BatchState.SUCCEEDED:d})",
    "pending_batches": f"sum(state = {BatchState.PENDING:d})",
    **{name: f"sum({name})" for name in rows.COUNTS},
}
# Progress may be newer than the last transition of its document.
_LOGGED = tuple(
    name
    for name in rows.CONDITION
    if not name.endswith("_segments") and not name.startswith("step_")
)
_TIMED = f"{DocumentState.PENDING:d}, {DocumentState.RUNNING:d}"
_TERMINAL = f"batches.state >= {BatchState.SUCCEEDED:d}"


def _grouped(table: str, by: str, sums: Mapping[str, str], where: str = "true") -> str:
    """Return a subquery `counted` of sums over the rows of a table, grouped by a column."""
    columns = ", ".join(f"{count} AS {name}" for name, count in sums.items())
    return f"(SELECT {by} AS one, {columns} FROM {table} WHERE {where} GROUP BY {by}) AS counted"


def _recounted(table: str, names: Sequence[str]) -> dict[str, str]:
    """Return the expected values of columns: those of `counted`, or 0 without rows."""
    return {f"{table}.{name}": f"coalesce(counted.{name}, 0)" for name in names}


_ENDS = {"first": "min(revision)", "last": "max(revision)", "rows": "count(*)"}
_LOGS = f"{_grouped('transitions', 'batch', _ENDS)} ON one = batches.id"


INVARIANTS: Sequence[Invariant] = (
    # Counts, against a recount.
    _equal(
        _BATCH,
        _recounted("batches", [*_COUNTED]),
        f"{_BATCHES} LEFT JOIN {_grouped('documents', 'batch', _COUNTED)} ON one = batches.id",
    ),
    _equal(
        _DATASET,
        _recounted("datasets", [*_SUMMED]),
        f"datasets LEFT JOIN {_grouped('batches', 'dataset', _SUMMED, 'state > 0')} "
        "ON one = datasets.id",
        "datasets.dataset_id >= '0'",
    ),
    _no_rows(
        _DATASET,
        "last_ended is {}, but no batch has that state",
        ["datasets.last_ended"],
        "datasets",
        # A batch that was reopened by a retry may have left its state there.
        f"datasets.dataset_id >= '0' AND open_batches = 0 AND coalesce(last_ended, 0) NOT IN "
        f"(SELECT state FROM {_OF_DATASET} UNION ALL "
        f"SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM {_OF_DATASET}))",
    ),
    _no_rows(
        _DATASET,
        "change_seq {} is not unique",
        ["change_seq"],
        "datasets",
        "change_seq > 0 AND change_seq IN (SELECT change_seq FROM removed_datasets UNION ALL "
        "SELECT change_seq FROM datasets AS others WHERE others.id <> datasets.id)",
    ),
    # The log, without gaps from its first row on.
    _equal(
        _BATCH,
        {"batches.first_revision": "counted.first", "batches.revision": "counted.last"},
        f"{_BATCHES} LEFT JOIN {_LOGS}",
    ),
    _no_rows(
        _BATCH,
        "its log from revision {} to {} has gaps (transitions: {})",
        ["counted.first", "counted.last", "counted.rows"],
        f"{_BATCHES} JOIN {_LOGS}",
        "counted.rows <> counted.last - counted.first + 1",
    ),
    _no_rows(
        _BATCH,
        "revision {} has kind {} and position {}, which does not exist",
        ["transitions.revision", "kind", "transitions.position"],
        f"{_TRANSITIONS} LEFT JOIN documents ON documents.batch = transitions.batch "
        "AND documents.position = transitions.position",
        f"kind NOT BETWEEN {min(TransitionKind):d} AND {max(TransitionKind):d} "
        "OR transitions.position IS NOT NULL AND documents.position IS NULL",
    ),
    _no_rows(
        _BATCH,
        "revision {} has an earlier commit time than the previous revision",
        ["transitions.revision"],
        f"{_TRANSITIONS} JOIN transitions AS earlier ON earlier.batch = transitions.batch "
        "AND earlier.revision = transitions.revision - 1",
        "transitions.committed_at < earlier.committed_at",
    ),
    # Rows, against their last state in the log.
    _equal(
        _BATCH,
        {f"batches.{name}": f"transitions.{name}" for name in ("sealed", *rows.COUNTS)},
        f"{_TRANSITIONS} AND transitions.revision = batches.revision",
    ),
    _equal(
        _DOCUMENT,
        {f"documents.{name}": f"transitions.{name}" for name in ("revision", *_LOGGED)},
        f"{_DOCUMENTS} LEFT JOIN transitions ON transitions.batch = documents.batch "
        "AND transitions.position = documents.position AND transitions.revision = (SELECT "
        "max(revision) FROM transitions AS log INDEXED BY transitions_by_document "
        "WHERE log.batch = documents.batch AND log.position = documents.position)",
        "(transitions.revision IS NOT NULL OR documents.revision >= batches.first_revision)",
    ),
    # States.
    _no_rows(
        _DOCUMENT,
        "state {}, stage {}, stalled {} and error {!r} are inconsistent",
        [f"documents.{name}" for name in ("state", "stage", "stalled", "error_reason")],
        _DOCUMENTS,
        f"documents.state NOT BETWEEN {min(DocumentState):d} AND {max(DocumentState):d} "
        f"OR stage NOT BETWEEN {min(Stage):d} AND {max(Stage):d} "
        f"OR (stage = {Stage.COMPLETED:d}) <> (documents.state = {DocumentState.SUCCEEDED:d}) "
        f"OR (error_reason IS NOT NULL) <> (documents.state = {DocumentState.FAILED:d}) "
        f"OR stalled AND documents.state NOT IN ({_TIMED})",
    ),
    _no_rows(
        _BATCH,
        "state {} and end {} are inconsistent",
        ["batches.state", "ended_at"],
        _BATCHES,
        f"(ended_at IS NOT NULL) <> ({_TERMINAL})",
    ),
    # Timers: on exactly the documents that can time out.
    _no_rows(
        _DOCUMENT,
        "state {}, stalled {}, heard at {} and due at {} are inconsistent",
        [f"documents.{name}" for name in ("state", "stalled", "heard_at", "due_at")],
        _DOCUMENTS,
        f"(due_at IS NOT NULL) <> (CASE documents.state "
        f"WHEN {DocumentState.PENDING:d} THEN iif(stalled, 0, start_after_us) "
        f"WHEN {DocumentState.RUNNING:d} THEN iif(stalled, fail_after_us, stall_after_us) "
        "ELSE 0 END > 0) "
        "OR due_at IS NOT NULL AND heard_at IS NULL",
    ),
    # Sequence numbers of counters.
    _no_rows(
        _DOCUMENT,
        "its counters have progress_seq {}, which is beyond the batch's or not unique",
        ["documents.progress_seq"],
        _DOCUMENTS,
        "documents.progress_seq > batches.progress_seq OR documents.progress_seq > 0 "
        "AND EXISTS (SELECT 1 FROM documents AS others WHERE others.batch = documents.batch "
        "AND others.progress_seq = documents.progress_seq AND others.progress_seq > 0 "
        "AND others.position <> documents.position)",
    ),
    _equal(
        _BATCH,
        {"batches.progress_seq": "coalesce(progress_epochs.progress_seq, 0)"},
        f"{_BATCHES} LEFT JOIN progress_epochs ON progress_epochs.batch = batches.id "
        "AND progress_epochs.server_epoch = batches.server_epoch",
    ),
    # The secret of the file.
    _NoRows(
        0,
        "the secret of page tokens is missing or has the wrong length",
        "SELECT 1 WHERE (SELECT sum(length(page_secret) = 32) FROM secrets) IS NOT 1",
    ),
)


_MAX_FAULTS = 100  # that are reported of a kind

_TOTALS = """
    SELECT (SELECT count(*) FROM datasets WHERE dataset_id >= '0'),
        (SELECT count(*) FROM batches WHERE state > 0),
        (SELECT total(pending + running + paused + succeeded + failed + stopped) FROM datasets
            WHERE dataset_id >= '0'),
        (SELECT total(revision - first_revision + 1) FROM batches WHERE state > 0)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """The totals of a file and its faults, one line each."""

    datasets: int
    batches: int
    documents: int
    transitions: int
    faults: Sequence[str]


def inspect_file(path: Path) -> Inspection:
    """Check a whole file, which servers may be using, without writing to it.

    Raises:
        StartError: it does not exist, cannot be read, or is not a stagecast database of this
            release.
    """
    with open_existing(path) as connection:
        check_current(connection, path)
        connection.execute("BEGIN")
        totals = (0, 0, 0, 0)
        faults: list[str] = []
        try:
            totals = connection.execute(_TOTALS).fetchone()
            for fault in _find_faults(connection):
                faults.append(fault)  # noqa: PERF402 - keeps those before an error
        except DriverError as error:
            faults.append(f"cannot be read to the end: {reason_of(error)}")
    datasets, batches, documents, transitions = map(int, totals)
    return Inspection(
        datasets=datasets,
        batches=batches,
        documents=documents,
        transitions=transitions,
        faults=faults,
    )


def _find_faults(connection: Connection) -> Iterator[str]:
    yield from _check(connection, "PRAGMA integrity_check", _describe_damage)
    yield from _check(connection, "PRAGMA foreign_key_check", _describe_orphan)
    for invariant in INVARIANTS:
        yield from _check(connection, invariant.sql, invariant.describe)


def _check(connection: Connection, sql: str, describe: Callable[[rows.Row], str]) -> Iterator[str]:
    cursor = connection.execute(sql)
    yield from filter(None, map(describe, islice(cursor, _MAX_FAULTS)))
    if cursor.fetchone() is not None:
        yield "… and more of this kind"


def _describe_damage(row: rows.Row) -> str:
    return "" if row == ("ok",) else f"damaged: {row[0]}".replace("\n", " ")


def _describe_orphan(row: rows.Row) -> str:
    table, key, parent, _ = row
    return f"a row of {table} (key {'unknown' if key is None else key}) has no parent in {parent}"

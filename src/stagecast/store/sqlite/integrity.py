"""What must be true of a store file, as SQL that finds where it is not; `check` runs it.

Everything is read in one transaction, so it is as of one moment while servers go on writing.
What was deleted and is still to be swept is not looked at: its state is 0.
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
from stagecast.store.sqlite.database_files import check_current, open_stored


class Invariant(Protocol):
    """One thing that must be true."""

    @property
    def sql(self) -> str:
        """A query for rows where it is not."""
        ...

    def tell(self, row: rows.Row) -> str:
        """Return in words what is wrong with a row."""
        ...


@dataclass(frozen=True, slots=True)
class _Never:
    """What must not be: a row is so many ids, and what `says` has room for."""

    ids: int
    sentence: str
    sql: str

    def tell(self, row: rows.Row) -> str:
        """Return in words what is wrong with a row."""
        sentence = self.sentence.format(*row[self.ids :])
        return f"{_named(row[: self.ids])}: {sentence}" if self.ids else sentence


@dataclass(frozen=True, slots=True)
class _Same:
    """What must be as it follows: a row is so many ids, the values, and what they have to be."""

    ids: int
    names: Sequence[str]
    sql: str

    def tell(self, row: rows.Row) -> str:
        """Return in words what is wrong with a row."""
        ids, values = row[: self.ids], row[self.ids :]
        pairs = zip(self.names, values[: len(self.names)], values[len(self.names) :], strict=True)
        wrong = (f"{name} is {is_!r}, not {due!r}" for name, is_, due in pairs if is_ != due)
        return f"{_named(ids)}: {', '.join(wrong)}"


def _named(ids: Sequence[object]) -> str:
    kinds = ("dataset", "batch", "document")
    return " of ".join(
        f"{kind} {quote(str(one))}" for kind, one in reversed([*zip(kinds, ids, strict=False)])
    )


def _same(ids: Sequence[str], due: Mapping[str, str], rest: str, where: str = "true") -> _Same:
    """Return that columns have to be what expressions say, in rows FROM which WHERE."""
    are, ought = ", ".join(due), ", ".join(due.values())
    return _Same(
        len(ids),
        [column.partition(".")[2] for column in due],
        f"SELECT {', '.join(ids)}, {are}, {ought} FROM {rest} "
        f"WHERE {where} AND ({are}) IS NOT ({ought})",
    )


def _never(
    ids: Sequence[str], sentence: str, columns: Sequence[str], rest: str, where: str
) -> _Never:
    """Return that there must be no rows FROM which WHERE."""
    return _Never(
        len(ids), sentence, f"SELECT {', '.join((*ids, *columns))} FROM {rest} WHERE {where}"
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
# Counters may be newer than the last transition of their document.
_LOGGED = tuple(name for name in rows.CONDITION if not name.endswith("_segments"))
_TIMED = f"{DocumentState.PENDING:d}, {DocumentState.RUNNING:d}"
_TERMINAL = f"batches.state >= {BatchState.SUCCEEDED:d}"


def _grouped(table: str, by: str, sums: Mapping[str, str], where: str = "true") -> str:
    """Return a subquery that counts the rows of a table by a column."""
    counted = ", ".join(f"{count} AS {name}" for name, count in sums.items())
    return f"(SELECT {by} AS one, {counted} FROM {table} WHERE {where} GROUP BY {by}) AS found"


def _found(table: str, names: Sequence[str]) -> dict[str, str]:
    """Return that columns are what was counted, or 0 if there is nothing to count."""
    return {f"{table}.{name}": f"coalesce(found.{name}, 0)" for name in names}


_ENDS = {"first": "min(revision)", "last": "max(revision)", "rows": "count(*)"}
_LOGS = f"{_grouped('transitions', 'batch', _ENDS)} ON one = batches.id"


INVARIANTS: Sequence[Invariant] = (
    # Counts, against what is counted anew.
    _same(
        _BATCH,
        _found("batches", [*_COUNTED]),
        f"{_BATCHES} LEFT JOIN {_grouped('documents', 'batch', _COUNTED)} ON one = batches.id",
    ),
    _same(
        _DATASET,
        _found("datasets", [*_SUMMED]),
        f"datasets LEFT JOIN {_grouped('batches', 'dataset', _SUMMED, 'state > 0')} "
        "ON one = datasets.id",
        "datasets.dataset_id >= '0'",
    ),
    _never(
        _DATASET,
        "last_ended is {}, which no batch of it is",
        ["datasets.last_ended"],
        "datasets",
        # A batch that was opened again may have left what it was.
        f"datasets.dataset_id >= '0' AND open_batches = 0 AND coalesce(last_ended, 0) NOT IN "
        f"(SELECT state FROM {_OF_DATASET} UNION ALL "
        f"SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM {_OF_DATASET}))",
    ),
    _never(
        _DATASET,
        "change_seq {} is another's as well",
        ["change_seq"],
        "datasets",
        "change_seq > 0 AND change_seq IN (SELECT change_seq FROM removed_datasets UNION ALL "
        "SELECT change_seq FROM datasets AS others WHERE others.id <> datasets.id)",
    ),
    # The log, whole from its first row on.
    _same(
        _BATCH,
        {"batches.kept_from": "found.first", "batches.revision": "found.last"},
        f"{_BATCHES} LEFT JOIN {_LOGS}",
    ),
    _never(
        _BATCH,
        "its log from revision {} to {} has gaps (transitions: {})",
        ["found.first", "found.last", "found.rows"],
        f"{_BATCHES} JOIN {_LOGS}",
        "found.rows <> found.last - found.first + 1",
    ),
    _never(
        _BATCH,
        "revision {} is of kind {} and position {}, which is not there",
        ["transitions.revision", "kind", "transitions.position"],
        f"{_TRANSITIONS} LEFT JOIN documents ON documents.batch = transitions.batch "
        "AND documents.position = transitions.position",
        f"kind NOT BETWEEN {min(TransitionKind):d} AND {max(TransitionKind):d} "
        "OR transitions.position IS NOT NULL AND documents.position IS NULL",
    ),
    _never(
        _BATCH,
        "revision {} was committed before the one before it",
        ["transitions.revision"],
        f"{_TRANSITIONS} JOIN transitions AS earlier ON earlier.batch = transitions.batch "
        "AND earlier.revision = transitions.revision - 1",
        "transitions.committed_at < earlier.committed_at",
    ),
    # Rows, against the last that the log says of them.
    _same(
        _BATCH,
        {f"batches.{name}": f"transitions.{name}" for name in ("sealed", *rows.COUNTS)},
        f"{_TRANSITIONS} AND transitions.revision = batches.revision",
    ),
    _same(
        _DOCUMENT,
        {f"documents.{name}": f"transitions.{name}" for name in ("revision", *_LOGGED)},
        f"{_DOCUMENTS} LEFT JOIN transitions ON transitions.batch = documents.batch "
        "AND transitions.position = documents.position AND transitions.revision = (SELECT "
        "max(revision) FROM transitions AS log INDEXED BY transitions_by_document "
        "WHERE log.batch = documents.batch AND log.position = documents.position)",
        "(transitions.revision IS NOT NULL OR documents.revision >= batches.kept_from)",
    ),
    # States.
    _never(
        _DOCUMENT,
        "state {}, stage {}, stalled {} and error {!r} do not go together",
        [f"documents.{name}" for name in ("state", "stage", "stalled", "error_reason")],
        _DOCUMENTS,
        f"documents.state NOT BETWEEN {min(DocumentState):d} AND {max(DocumentState):d} "
        f"OR stage NOT BETWEEN {min(Stage):d} AND {max(Stage):d} "
        f"OR (stage = {Stage.COMPLETED:d}) <> (documents.state = {DocumentState.SUCCEEDED:d}) "
        f"OR (error_reason IS NOT NULL) <> (documents.state = {DocumentState.FAILED:d}) "
        f"OR stalled AND documents.state NOT IN ({_TIMED})",
    ),
    _never(
        _BATCH,
        "state {} and end {} do not go together",
        ["batches.state", "ended_at"],
        _BATCHES,
        f"(ended_at IS NOT NULL) <> ({_TERMINAL})",
    ),
    # Timers: of all whose silence or wait counts, and of nobody else.
    _never(
        _DOCUMENT,
        "state {}, stalled {}, heard at {} and due at {} do not go together",
        [f"documents.{name}" for name in ("state", "stalled", "heard_at", "due_at")],
        _DOCUMENTS,
        f"(due_at IS NOT NULL) <> (CASE documents.state "
        f"WHEN {DocumentState.PENDING:d} THEN iif(stalled, 0, start_after_us) "
        f"WHEN {DocumentState.RUNNING:d} THEN iif(stalled, fail_after_us, stall_after_us) "
        "ELSE 0 END > 0) "
        "OR due_at IS NOT NULL AND heard_at IS NULL",
    ),
    # Serials of counters.
    _never(
        _DOCUMENT,
        "its counters have progress_seq {}, beyond the batch's or another's as well",
        ["documents.progress_seq"],
        _DOCUMENTS,
        "documents.progress_seq > batches.progress_seq OR documents.progress_seq > 0 "
        "AND EXISTS (SELECT 1 FROM documents AS others WHERE others.batch = documents.batch "
        "AND others.progress_seq = documents.progress_seq AND others.progress_seq > 0 "
        "AND others.position <> documents.position)",
    ),
    _same(
        _BATCH,
        {"batches.progress_seq": "coalesce(progress_epochs.progress_seq, 0)"},
        f"{_BATCHES} LEFT JOIN progress_epochs ON progress_epochs.batch = batches.id "
        "AND progress_epochs.server_epoch = batches.server_epoch",
    ),
    # The file's own secret.
    _Never(
        0,
        "the secret of page tokens is missing, or no such secret",
        "SELECT 1 WHERE (SELECT sum(length(page_secret) = 32) FROM secrets) IS NOT 1",
    ),
)


_MAX_FAULTS = 100  # of a kind that are told

_HELD = """
    SELECT (SELECT count(*) FROM datasets WHERE dataset_id >= '0'),
        (SELECT count(*) FROM batches WHERE state > 0),
        (SELECT total(pending + running + paused + succeeded + failed + stopped) FROM datasets
            WHERE dataset_id >= '0'),
        (SELECT total(revision - kept_from + 1) FROM batches WHERE state > 0)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """What a file holds, and what is wrong with it, a line each."""

    datasets: int
    batches: int
    documents: int
    transitions: int
    faults: Sequence[str]


def inspect_file(path: Path) -> Inspection:
    """Look at all of a file, which servers may be using; nothing is written to it.

    Raises:
        StartError: it is not there, cannot be read, or is not one of stagecast's, of this release.
    """
    with open_stored(path) as connection:
        check_current(connection, path)
        connection.execute("BEGIN")
        held = (0, 0, 0, 0)
        faults: list[str] = []
        try:
            held = connection.execute(_HELD).fetchone()
            for fault in _find_faults(connection):
                faults.append(fault)  # noqa: PERF402 - those before an error count
        except DriverError as error:
            faults.append(f"it cannot be read to the end: {reason_of(error)}")
    datasets, batches, documents, transitions = map(int, held)
    return Inspection(
        datasets=datasets,
        batches=batches,
        documents=documents,
        transitions=transitions,
        faults=faults,
    )


def _find_faults(connection: Connection) -> Iterator[str]:
    yield from _tell(connection, "PRAGMA integrity_check", _tell_damage)
    yield from _tell(connection, "PRAGMA foreign_key_check", _tell_orphan)
    for invariant in INVARIANTS:
        yield from _tell(connection, invariant.sql, invariant.tell)


def _tell(connection: Connection, sql: str, tell: Callable[[rows.Row], str]) -> Iterator[str]:
    rows = connection.execute(sql)
    yield from filter(None, map(tell, islice(rows, _MAX_FAULTS)))
    if rows.fetchone() is not None:
        yield "… and more of the kind"


def _tell_damage(row: rows.Row) -> str:
    return "" if row == ("ok",) else f"damaged: {row[0]}".replace("\n", " ")


def _tell_orphan(row: rows.Row) -> str:
    table, key, parent, _ = row
    return f"a row of {table} ({'its key' if key is None else key}) names none of {parent}"

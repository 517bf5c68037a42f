"""The statements of the SQLite store: one class that reads, one that also writes."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterator

from stagecast.model import (
    Batch,
    BatchEdit,
    Creation,
    Dataset,
    Document,
    DocumentCounts,
    DocumentState,
    Stage,
    Transition,
    evolve,
    move_dataset,
)
from stagecast.store.protocol import BatchName
from stagecast.store.sqlite import rows
from stagecast.store.sqlite.connection import Connection, Cursor

# A dataset by its id.
_DATASET = f"SELECT {rows.columns(rows.DATASET)} FROM datasets WHERE dataset_id = ?"

# All datasets, or those of a JSON list; the list may be long, and a statement takes few parameters.
_DATASETS = f"SELECT {rows.columns(rows.DATASET)} FROM datasets ORDER BY dataset_id"
_DATASETS_NAMED = f"""
    SELECT {rows.columns(rows.DATASET)} FROM datasets
    WHERE dataset_id IN (SELECT value FROM json_each(?)) ORDER BY dataset_id
"""

# A batch by its ids.
_BATCH = f"""
    SELECT {rows.columns(rows.BATCH, "batches")}
    FROM batches JOIN datasets ON datasets.id = batches.dataset
    WHERE datasets.dataset_id = ? AND batches.batch_id = ?
"""

# A batch by the request that created it.
_BATCH_BY_REQUEST = f"""
    SELECT {rows.columns(rows.BATCH, "batches")}
    FROM batches JOIN datasets ON datasets.id = batches.dataset
    WHERE datasets.dataset_id = ? AND batches.request_id = ?
"""

# One document by its id; the usual report names one.
_DOCUMENT = f"""
    SELECT {rows.columns(rows.DOCUMENT)} FROM documents WHERE batch = ? AND document_id = ?
"""

# Documents of a JSON list of ids.
_DOCUMENTS_NAMED = f"""
    SELECT {rows.columns(rows.DOCUMENT)} FROM documents
    WHERE batch = ? AND document_id IN (SELECT value FROM json_each(?))
"""

# Documents in the order of registration, from a position on.
_DOCUMENTS = f"""
    SELECT {rows.columns(rows.DOCUMENT)} FROM documents WHERE batch = ? AND position > ?
"""

# Documents whose counters changed after a serial.
_PROGRESSED = f"""
    SELECT progress_serial, {rows.columns(rows.DOCUMENT)} FROM documents
    WHERE batch = ? AND progress_serial > ? AND progress_serial > 0 ORDER BY progress_serial
"""

# The log from a revision on, each row with its document's identity.
_LOG = f"""
    SELECT {rows.columns(rows.LOG, "transitions")}, {rows.columns(rows.IDENTITY, "documents")}
    FROM transitions LEFT JOIN documents
        ON documents.batch = transitions.batch AND documents.position = transitions.position
    WHERE transitions.batch = ? AND transitions.revision > ? ORDER BY transitions.revision
"""

# The call that made a transition.
_CALL = "SELECT call FROM transitions WHERE batch = ? AND revision = ?"

# The last serial that a server gave.
_SERIAL = "SELECT serial FROM progress_marks WHERE batch = ? AND mark = ?"
_SAVE_SERIAL = """
    INSERT INTO progress_marks (batch, mark, serial) VALUES (?, ?, ?)
    ON CONFLICT (batch, mark) DO UPDATE SET serial = excluded.serial
"""

# How a batch was created.
_CREATION = "SELECT fingerprint, created_documents, request_id FROM batches WHERE id = ?"

# A dataset's first batch makes its row.
_NEW_DATASET = f"""
    INSERT INTO datasets ({rows.columns(rows.DATASET)}) VALUES ({rows.placeholders(rows.DATASET)})
"""

# A batch before its first transition.
_NEW_BATCH_COLUMNS = (
    *("dataset", "batch_id", "labels", "stall_after_us", "fail_after_us", "created_at"),
    *("fingerprint", "created_documents", "request_id"),
    *rows.BATCH_CONDITION,
)
_NEW_BATCH = f"""
    INSERT INTO batches ({rows.columns(_NEW_BATCH_COLUMNS)})
    VALUES ((SELECT id FROM datasets WHERE dataset_id = ?),
        {rows.placeholders(_NEW_BATCH_COLUMNS[1:])})
"""

# What a call makes of its batch and dataset.
_SAVE_BATCH = f"UPDATE batches SET {rows.assignments(rows.BATCH_CONDITION)} WHERE id = ?"
_SAVE_DATASET = f"UPDATE datasets SET {rows.assignments(rows.DATASET)} WHERE dataset_id = ?"

# Documents that join.
_NEW_DOCUMENT = f"""
    INSERT INTO documents (batch, progress_serial, {rows.columns(rows.DOCUMENT)})
    VALUES (?, 0, {rows.placeholders(rows.DOCUMENT)})
"""

# Documents that changed; a serial only where counters did without a transition.
_SAVE_DOCUMENT = f"""
    UPDATE documents SET {rows.assignments(rows.CONDITION)}, revision = ?, updated_at = ?,
        progress_serial = coalesce(?, progress_serial)
    WHERE batch = ? AND position = ?
"""

# The log.
_NEW_TRANSITION = f"""
    INSERT INTO transitions (batch, {rows.columns(rows.LOG)})
    VALUES (?, {rows.placeholders(rows.LOG)})
"""


class SqliteReading:
    """Reads on one connection, inside a transaction that somebody else began."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursors: list[Cursor] = []

    def close(self) -> None:
        """End what was only read in part, before the transaction ends.

        An error's traceback may keep a generator alive, and its cursor would hold on to the moment
        that it reads.
        """
        for cursor in self._cursors:
            cursor.close()

    def find_dataset(self, dataset_id: str) -> Dataset | None:
        """Return the dataset, if it is there."""
        row = self._connection.execute(_DATASET, (dataset_id,)).fetchone()
        return rows.dataset_from_row(row) if row else None

    def find_datasets(self, dataset_ids: Collection[str] | None) -> list[Dataset]:
        """Return those of the datasets that are there, or all, in the order of their ids."""
        if dataset_ids is None:
            found = self._connection.execute(_DATASETS)
        else:
            found = self._connection.execute(_DATASETS_NAMED, (json.dumps(list(dataset_ids)),))
        return [rows.dataset_from_row(row) for row in found]

    def find_batch(self, dataset_id: str, batch_id: str) -> Batch | None:
        """Return the batch, if it is there."""
        row = self._connection.execute(_BATCH, (dataset_id, batch_id)).fetchone()
        return rows.batch_from_row(row, dataset_id) if row else None

    def find_documents(self, batch: Batch, document_ids: Collection[str]) -> dict[str, Document]:
        """Return those of the documents that are there, by id."""
        if len(document_ids) == 1:
            found = self._connection.execute(_DOCUMENT, (batch.key, *document_ids))
        else:
            names = json.dumps(list(document_ids))
            found = self._connection.execute(_DOCUMENTS_NAMED, (batch.key, names))
        documents = (rows.document_from_row(row, batch.dataset_id, batch.batch_id) for row in found)
        return {document.document_id: document for document in documents}

    def iterate_documents(
        self,
        batch: Batch,
        *,
        after_position: int = -1,
        states: Collection[DocumentState] = (),
        stages: Collection[Stage] = (),
    ) -> Iterator[Document]:
        """Yield documents in the order of registration; an empty filter lets all through."""
        where = _is_one_of("state", states) + _is_one_of("stage", stages)
        found = self._iterate(
            f"{_DOCUMENTS}{where} ORDER BY position", (batch.key, after_position, *states, *stages)
        )
        for row in found:
            yield rows.document_from_row(row, batch.dataset_id, batch.batch_id)

    def iterate_transitions(self, batch: Batch, *, after_revision: int) -> Iterator[Transition]:
        """Yield the log from the next revision on."""
        for row in self._iterate(_LOG, (batch.key, after_revision)):
            yield rows.transition_from_row(row, batch.dataset_id, batch.batch_id)

    def find_call(self, batch: Batch, revision: int) -> int | None:
        """Return the call that made a transition, if the log still has it."""
        row = self._connection.execute(_CALL, (batch.key, revision)).fetchone()
        return row[0] if row else None

    def find_serial(self, batch: Batch, mark: int) -> int:
        """Return the last progress serial that the server with this mark gave, or 0."""
        row = self._connection.execute(_SERIAL, (batch.key, mark)).fetchone()
        return row[0] if row else 0

    def iterate_progress(
        self, batch: Batch, *, after_serial: int
    ) -> Iterator[tuple[int, Document]]:
        """Yield documents whose counters changed without a transition, with their serials."""
        for serial, *row in self._iterate(_PROGRESSED, (batch.key, after_serial)):
            yield serial, rows.document_from_row(tuple(row), batch.dataset_id, batch.batch_id)

    def _iterate(self, sql: str, parameters: tuple[object, ...]) -> Cursor:
        cursor = self._connection.execute(sql, parameters)
        self._cursors.append(cursor)
        return cursor


class SqliteWriting(SqliteReading):
    """Also writes.

    Args:
        connection: where to write.
        now: the commit time in microseconds.
        mark: the random number of this server.

    Attributes:
        now: the commit time in microseconds.
        touched: the batches that were saved.
    """

    def __init__(self, connection: Connection, now: int, mark: int) -> None:
        super().__init__(connection)
        self.now = now
        self._mark = mark
        self.touched: set[BatchName] = set()

    def get_creation(self, batch: Batch) -> Creation:
        """Return what is known of the call that created the batch."""
        [(fingerprint, documents, request_id)] = self._connection.execute(_CREATION, (batch.key,))
        return Creation(fingerprint=fingerprint, documents=documents, request_id=request_id)

    def find_batch_by_request(self, dataset_id: str, request_id: str) -> Batch | None:
        """Return the batch that was created with this request id."""
        row = self._connection.execute(_BATCH_BY_REQUEST, (dataset_id, request_id)).fetchone()
        return rows.batch_from_row(row, dataset_id) if row else None

    def new_batch(self, batch: Batch, creation: Creation) -> BatchEdit:
        """Make the row of a new batch, which gives it its `key`; and its dataset's, if need be."""
        if self.find_dataset(batch.dataset_id) is None:
            self._connection.execute(
                _NEW_DATASET, rows.dataset_to_row(_first_seen(batch.dataset_id, self.now))
            )
        cursor = self._connection.execute(
            _NEW_BATCH,
            (
                batch.dataset_id,
                batch.batch_id,
                rows.labels_to_text(dict(batch.labels)),
                batch.stall_after_us,
                batch.fail_after_us,
                batch.created_at,
                creation.fingerprint,
                creation.documents,
                creation.request_id,
                *rows.batch_condition_to_row(batch),
            ),
        )
        keyed = evolve(batch, key=cursor.lastrowid or 0)
        return BatchEdit(keyed, new=True, now=self.now, call=random_number(), mark=self._mark)

    def edit(self, batch: Batch) -> BatchEdit:
        """Begin to change a batch that is there."""
        return BatchEdit(batch, new=False, now=self.now, call=random_number(), mark=self._mark)

    def save(self, edit: BatchEdit) -> None:
        """Write rows, log and counts."""
        if not edit.dirty:
            return
        batch = edit.batch
        self._save_documents(edit)
        self._connection.executemany(
            _NEW_TRANSITION,
            ((batch.key, *rows.transition_to_row(transition)) for transition in edit.transitions),
        )
        self._connection.execute(_SAVE_BATCH, (*rows.batch_condition_to_row(batch), batch.key))
        if edit.transitions:
            self._save_dataset(edit)
        if edit.serials:
            serial = (batch.key, batch.progress_mark, batch.progress_serial)
            self._connection.execute(_SAVE_SERIAL, serial)
        self.touched.add((batch.dataset_id, batch.batch_id))

    def _save_documents(self, edit: BatchEdit) -> None:
        key = edit.batch.key
        if edit.added:
            self._connection.executemany(
                _NEW_DOCUMENT,
                ((key, *rows.document_to_row(added)) for added in edit.added.values()),
            )
        self._connection.executemany(
            _SAVE_DOCUMENT,
            (
                (
                    *rows.condition_to_row(document),
                    document.revision,
                    document.updated_at,
                    edit.serials.get(document.document_id),
                    key,
                    document.position,
                )
                for document in edit.changed.values()
            ),
        )

    def _save_dataset(self, edit: BatchEdit) -> None:
        dataset_id = edit.batch.dataset_id
        [row] = self._connection.execute(_DATASET, (dataset_id,))
        moved = move_dataset(rows.dataset_from_row(row), edit.before, edit.batch)
        self._connection.execute(_SAVE_DATASET, (*rows.dataset_to_row(moved), dataset_id))


def _is_one_of(column: str, values: Collection[int]) -> str:
    return f" AND {column} IN ({', '.join('?' * len(values))})" if values else ""


def random_number() -> int:
    """Return a number that no other call or server has."""
    return random.getrandbits(63)


def _first_seen(dataset_id: str, now: int) -> Dataset:
    return Dataset(
        dataset_id=dataset_id,
        batches=0,
        open_batches=0,
        pending_batches=0,
        last_ended=None,
        counts=DocumentCounts(),
        updated_at=now,
    )

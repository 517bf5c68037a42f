"""Read transactions of the SQLite store."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import cast

from stagecast.errors import StoreBusy
from stagecast.escaping import quote
from stagecast.model import (
    Batch,
    BatchState,
    Dataset,
    Document,
    DocumentState,
    EncodedDocument,
    EncodedTransition,
    Stage,
    Transition,
)
from stagecast.store.protocol import BatchName, DatasetNews, Encoder, Head
from stagecast.store.sqlite import rows
from stagecast.store.sqlite.connection import RETRY_AFTER_S, Connection, Cursor
from stagecast.store.sqlite.keys import KeyReads
from stagecast.store.sqlite.timers import TimerReads
from stagecast.store.sqlite.trimming import TrimmingReads

# A dataset by its id.
_DATASET = f"SELECT {rows.listed(rows.DATASET)} FROM datasets WHERE dataset_id = ?"

# Datasets ordered by id; many ids are a JSON list, since a statement takes few parameters. Deleted
# datasets have ids before '0'.
_DATASETS = f"SELECT {rows.listed(rows.DATASET)} FROM datasets WHERE dataset_id > ?"
_OF_LIST = " AND dataset_id IN (SELECT value FROM json_each(?))"
_FEW = 10  # ids that are parameters: a list costs 12 µs of the 40 of the usual poll
_NO_DATASET = "0"

# Datasets changed or removed after a change_seq.
_CHANGED_DATASETS = f"""
    SELECT {rows.listed(rows.DATASET)} FROM datasets WHERE change_seq > ? AND dataset_id > '0'
"""
_REMOVED_DATASETS = "SELECT dataset_id FROM removed_datasets WHERE change_seq > ?"
LAST_CHANGE_SEQ = """
    SELECT max(coalesce((SELECT max(change_seq) FROM datasets), 0),
        coalesce((SELECT max(change_seq) FROM removed_datasets), 0))
"""

# When datasets changed; of all datasets only the last change, and how many were removed.
_DATASET_HEADS = """
    SELECT dataset_id, change_seq, updated_at FROM datasets WHERE dataset_id > '0'
"""
_LAST_CHANGES = """
    SELECT * FROM (
        SELECT dataset_id, change_seq, updated_at FROM datasets ORDER BY change_seq DESC LIMIT 1
    ) UNION ALL SELECT * FROM (
        SELECT dataset_id, change_seq, 0 FROM removed_datasets ORDER BY change_seq DESC LIMIT 1
    )
"""

# A batch by its ids.
_BATCH = f"""
    SELECT {rows.listed(rows.BATCH, "batches")}
    FROM batches JOIN datasets ON datasets.id = batches.dataset
    WHERE datasets.dataset_id = ? AND batches.batch_id = ?
"""

# The heads of batches, by a JSON list of pairs of ids.
_HEADS = """
    SELECT datasets.dataset_id, batches.batch_id, batches.id, batches.revision,
        batches.progress_seq, batches.updated_at
    FROM json_each(?) AS named
        JOIN datasets ON datasets.dataset_id = named.value ->> 0
        JOIN batches ON batches.dataset = datasets.id AND batches.batch_id = named.value ->> 1
"""

# Keys of batches in a state, before a key; several such queries are merged, newest first.
_KEYS_IN_STATE = "SELECT id FROM batches WHERE state = ? AND id < ?"
_KEYS_IN_STATE_OF_DATASET = """
    SELECT id FROM batches
    WHERE dataset = (SELECT id FROM datasets WHERE dataset_id = ?) AND state = ? AND id < ?
"""
_BATCH_OF_KEY = f"""
    SELECT datasets.dataset_id, {rows.listed(rows.BATCH, "batches")}
    FROM batches JOIN datasets ON datasets.id = batches.dataset WHERE batches.id = ?
"""
_NEWEST = 2**63 - 1

# One document by its id: the usual report is about one.
_DOCUMENT = f"""
    SELECT {rows.listed(rows.DOCUMENT)} FROM documents WHERE batch = ? AND document_id = ?
"""

# Documents of a JSON list of ids.
_DOCUMENTS_NAMED = f"""
    SELECT {rows.listed(rows.DOCUMENT)} FROM documents
    WHERE batch = ? AND document_id IN (SELECT value FROM json_each(?))
"""

# Documents in the order of registration, after a position.
_DOCUMENTS = f"""
    SELECT {rows.listed(rows.DOCUMENT)} FROM documents WHERE batch = ? AND position > ?
"""

# Documents whose counters changed after a progress_seq.
_PROGRESSED = f"""
    SELECT progress_seq, {rows.listed(rows.DOCUMENT)} FROM documents
    WHERE batch = ? AND progress_seq > ? AND progress_seq > 0 ORDER BY progress_seq
"""

# The log after a revision, each row with the identity of its document.
_LOG = f"""
    SELECT {rows.listed(rows.LOG, "transitions")},
        {rows.listed(rows.IDENTITY, "documents")}
    FROM transitions LEFT JOIN documents
        ON documents.batch = transitions.batch AND documents.position = transitions.position
    WHERE transitions.batch = ? AND transitions.revision > ? ORDER BY transitions.revision
"""

# The log of one document. Without statistics SQLite would scan the log of the batch.
_LOG_OF_DOCUMENT = f"""
    SELECT {rows.listed(rows.LOG)} FROM transitions INDEXED BY transitions_by_document
    WHERE batch = ? AND position = ? AND revision > ? ORDER BY revision
"""

# The state of a document as of a revision.
_LAST_OF_DOCUMENT = f"""
    SELECT {rows.listed(rows.LOG)} FROM transitions INDEXED BY transitions_by_document
    WHERE batch = ? AND position = ? AND revision <= ? ORDER BY revision DESC LIMIT 1
"""

# Documents as of a revision, each with its bytes: NULL where they do not count, see `encoded`, or
# the row is of a later revision. They are joined here, as each column costs a tenth of a list.
_ENCODED_DOCUMENTS = """
    SELECT position, CASE
        WHEN encoder_version = ? AND encoded_revision = revision
            AND encoded_progress_seq = progress_seq
            AND revision <= ? THEN CAST(encoded_identity || encoded_rest AS BLOB) END
    FROM documents WHERE batch = ? AND
"""
_NOW = 2**63 - 1

# The log; without an identity where the bytes do not count.
_ENCODED_LOG = """
    SELECT transitions.revision, write_id, transitions.position, kind, previous_state,
        previous_stage, event_at, committed_at,
        CASE WHEN transitions.encoder_version = ?1 AND documents.encoder_version = ?1
            THEN encoded_identity END, transitions.encoded_condition
    FROM transitions {index} LEFT JOIN documents
        ON documents.batch = transitions.batch AND documents.position = transitions.position
    WHERE transitions.batch = ?2 AND transitions.revision > ?3 {of_document}
    ORDER BY transitions.revision
"""
_ENCODED_LOG_OF_BATCH = _ENCODED_LOG.format(index="", of_document="")
# Without statistics SQLite would scan the log of the batch.
_ENCODED_LOG_OF_DOCUMENT = _ENCODED_LOG.format(
    index="INDEXED BY transitions_by_document", of_document="AND transitions.position = ?4"
)

# The columns of one document.
_DOCUMENT_AT = f"""
    SELECT {rows.listed(rows.DOCUMENT)} FROM documents WHERE batch = ? AND position = ?
"""

# The key that page tokens are encrypted with.
_PAGE_SECRET = "SELECT page_secret FROM secrets"  # noqa: S105 - a query

# The write_id of a transition.
_WRITE_ID = "SELECT write_id FROM transitions WHERE batch = ? AND revision = ?"

# The last progress_seq assigned by a server.
_PROGRESS_SEQ = "SELECT progress_seq FROM progress_epochs WHERE batch = ? AND server_epoch = ?"


# Like `_make`, without its own check of the length, in half the time.
_make_encoded_transition = partial(tuple.__new__, EncodedTransition)


# Rows that are fetched together: what yields rows one by one costs as much as the rows.
_CHUNK = 32


def _read_chunks(cursor: Cursor) -> Iterator[list[rows.Row]]:
    return iter(partial(cursor.fetchmany, _CHUNK), [])


class SqliteReadTransaction(KeyReads, TimerReads, TrimmingReads):
    """Reads on one connection, in a transaction that the caller has begun.

    Args:
        connection: of the thread.
        encoder: makes the bytes that are not kept, or of other values than the columns.
    """

    def __init__(self, connection: Connection, encoder: Encoder) -> None:
        self._connection = connection
        self.encoder = encoder
        self._cursors: list[Cursor] = []

    def close(self) -> None:
        """Close unfinished cursors, before the transaction ends.

        The traceback of an error may keep a generator alive, whose cursor would keep the snapshot
        open.
        """
        for cursor in self._cursors:
            cursor.close()

    def find_dataset(self, dataset_id: str) -> Dataset | None:
        row = self._connection.execute(_DATASET, (dataset_id,)).fetchone()
        return rows.dataset_from_row(row) if row else None

    def iterate_datasets(
        self, dataset_ids: Collection[str] | None, *, after: str = ""
    ) -> Iterator[Dataset]:
        where, named = _named(dataset_ids)
        cursor = self._iterate(
            f"{_DATASETS}{where} ORDER BY dataset_id", (max(after, _NO_DATASET), *named)
        )
        return map(rows.dataset_from_row, cursor)

    def find_dataset_news(
        self, dataset_ids: Collection[str] | None, *, after_seq: int
    ) -> DatasetNews:
        named = () if dataset_ids is None else (json.dumps(list(dataset_ids)),)
        of_list = _OF_LIST if named else ""
        params = (after_seq, *named)
        changed = self._connection.execute(f"{_CHANGED_DATASETS}{of_list}", params).fetchall()
        removed = self._connection.execute(f"{_REMOVED_DATASETS}{of_list}", params).fetchall()
        [(change_seq,)] = self._connection.execute(LAST_CHANGE_SEQ)
        datasets = [rows.dataset_from_row(row) for row in changed]
        existing = {dataset.dataset_id for dataset in datasets}
        return DatasetNews(
            change_seq=change_seq,
            changed=datasets,
            removed=sorted({dataset_id for (dataset_id,) in removed} - existing),
        )

    def find_dataset_heads(self, dataset_ids: Collection[str] | None) -> Hashable:
        where, named = _named(dataset_ids)
        query = _LAST_CHANGES if dataset_ids is None else f"{_DATASET_HEADS}{where}"
        return tuple(self._connection.execute(query, named).fetchall())

    def find_batch(self, dataset_id: str, batch_id: str) -> Batch | None:
        row = self._connection.execute(_BATCH, (dataset_id, batch_id)).fetchone()
        return rows.batch_from_row(row, dataset_id) if row else None

    def find_heads(self, names: Collection[BatchName]) -> dict[BatchName, Head]:
        cursor = self._connection.execute(_HEADS, (json.dumps(list(names)),))
        return {(dataset_id, batch_id): tuple(head) for dataset_id, batch_id, *head in cursor}

    def iterate_batches(
        self,
        dataset_id: str | None,
        *,
        states: Collection[BatchState] = (),
        before_key: int | None = None,
    ) -> Iterator[Batch]:
        of_dataset = () if dataset_id is None else (dataset_id,)
        one = _KEYS_IN_STATE_OF_DATASET if of_dataset else _KEYS_IN_STATE
        before = _NEWEST if before_key is None else before_key
        selected = states or tuple(BatchState)
        cursor = self._iterate(
            " UNION ALL ".join([one] * len(selected)) + " ORDER BY id DESC",
            tuple(value for state in selected for value in (*of_dataset, state, before)),
        )
        for key in cursor:
            [(dataset_id, *row)] = self._connection.execute(_BATCH_OF_KEY, key)
            yield rows.batch_from_row(tuple(row), dataset_id)

    def find_documents(self, batch: Batch, document_ids: Collection[str]) -> dict[str, Document]:
        if len(document_ids) == 1:
            cursor = self._connection.execute(_DOCUMENT, (batch.key, *document_ids))
        else:
            names = json.dumps(list(document_ids))
            cursor = self._connection.execute(_DOCUMENTS_NAMED, (batch.key, names))
        documents = (
            rows.document_from_row(row, batch.dataset_id, batch.batch_id) for row in cursor
        )
        return {document.document_id: document for document in documents}

    def iterate_documents(
        self,
        batch: Batch,
        *,
        after_position: int = -1,
        states: Collection[DocumentState] = (),
        stages: Collection[Stage] = (),
        as_of: int | None = None,
    ) -> Iterator[Document]:
        where = _is_one_of("state", states) + _is_one_of("stage", stages)
        cursor = self._iterate(
            f"{_DOCUMENTS}{where} ORDER BY position", (batch.key, after_position, *states, *stages)
        )
        for row in cursor:
            document = rows.document_from_row(row, batch.dataset_id, batch.batch_id)
            if as_of is None or document.revision <= as_of:
                yield document
            elif (earlier := self._find_earlier(batch, row, as_of)) is not None:
                yield earlier

    def iterate_transitions(
        self, batch: Batch, *, after_revision: int, document: Document | None = None
    ) -> Iterator[Transition]:
        identity: rows.Row = ()
        if document is None:
            cursor = self._iterate(_LOG, (batch.key, after_revision))
        else:
            identity = rows.identity_to_row(document)
            cursor = self._iterate(_LOG_OF_DOCUMENT, (batch.key, document.position, after_revision))
        for row in cursor:
            yield rows.transition_from_row((*row, *identity), batch.dataset_id, batch.batch_id)

    def find_encoded_document(self, batch: Batch, document_id: str) -> EncodedDocument | None:
        params = (self.encoder.version, _NOW, batch.key, document_id)
        cursor = self._iterate(f"{_ENCODED_DOCUMENTS} document_id = ?", params)
        return next(chain.from_iterable(self._encoded_documents(cursor, batch, None)), None)

    def iterate_encoded_documents(
        self,
        batch: Batch,
        *,
        after_position: int = -1,
        states: Collection[DocumentState] = (),
        stages: Collection[Stage] = (),
        as_of: int | None = None,
    ) -> Iterator[EncodedDocument]:
        where = _is_one_of("state", states) + _is_one_of("stage", stages)
        until = _NOW if as_of is None else as_of
        cursor = self._iterate(
            f"{_ENCODED_DOCUMENTS} position > ?{where} ORDER BY position",
            (self.encoder.version, until, batch.key, after_position, *states, *stages),
        )
        return chain.from_iterable(self._encoded_documents(cursor, batch, as_of))

    def iterate_encoded_transitions(
        self, batch: Batch, *, after_revision: int, document: EncodedDocument | None = None
    ) -> Iterator[EncodedTransition]:
        sql = _ENCODED_LOG_OF_BATCH if document is None else _ENCODED_LOG_OF_DOCUMENT
        of_document = () if document is None else (document[0],)
        cursor = self._iterate(sql, (self.encoder.version, batch.key, after_revision, *of_document))
        return chain.from_iterable(self._encoded_transitions(cursor, batch))

    def get_page_secret(self) -> bytes:
        [(secret,)] = self._connection.execute(_PAGE_SECRET)
        return bytes(secret)

    def find_write_id(self, batch: Batch, revision: int) -> int | None:
        row = self._connection.execute(_WRITE_ID, (batch.key, revision)).fetchone()
        return row[0] if row else None

    def find_progress_seq(self, batch: Batch, server_epoch: int) -> int:
        row = self._connection.execute(_PROGRESS_SEQ, (batch.key, server_epoch)).fetchone()
        return row[0] if row else 0

    def iterate_progress(self, batch: Batch, *, after_seq: int) -> Iterator[tuple[int, Document]]:
        for progress_seq, *row in self._iterate(_PROGRESSED, (batch.key, after_seq)):
            yield progress_seq, rows.document_from_row(tuple(row), batch.dataset_id, batch.batch_id)

    def _encoded_documents(
        self, cursor: Cursor, batch: Batch, as_of: int | None
    ) -> Iterator[Iterable[EncodedDocument]]:
        for chunk in _read_chunks(cursor):
            if [row for row in chunk if row[1] is None]:  # not `any`: it would call for each row
                yield self._encode_stale_documents(chunk, batch, as_of)
            else:
                yield cast("list[EncodedDocument]", chunk)

    def _encode_stale_documents(
        self, chunk: Iterable[rows.Row], batch: Batch, as_of: int | None
    ) -> Iterator[EncodedDocument]:
        encoder = self.encoder
        for position, fields in chunk:
            if fields is not None:
                yield position, fields
            elif (document := self._find_as_of(batch, position, as_of)) is not None:
                condition = encoder.condition(document) + encoder.last_change(document)
                yield position, encoder.identity(document) + condition

    def _find_as_of(self, batch: Batch, position: int, as_of: int | None) -> Document | None:
        """Return a document by its columns; `None` if it was registered after a revision."""
        row = self._connection.execute(_DOCUMENT_AT, (batch.key, position)).fetchone()
        document = rows.document_from_row(row, batch.dataset_id, batch.batch_id)
        if as_of is None or document.revision <= as_of:
            return document
        return self._find_earlier(batch, row, as_of)

    def _encoded_transitions(
        self, cursor: Cursor, batch: Batch
    ) -> Iterator[Iterable[EncodedTransition]]:
        for chunk in _read_chunks(cursor):
            transitions: Iterable[EncodedTransition] = map(_make_encoded_transition, chunk)
            if [row for row in chunk if row[8] is None and row[2] is not None]:
                transitions = (self._encode_if_stale(one, batch) for one in transitions)
            yield transitions

    def _encode_if_stale(self, stale: EncodedTransition, batch: Batch) -> EncodedTransition:
        """Encode the document of a transition by the columns, if its bytes do not count."""
        if stale.identity is not None or stale.position is None:
            return stale
        following = self.iterate_transitions(batch, after_revision=stale.revision - 1)
        document = next(following).document
        return stale._replace(
            identity=self.encoder.identity(document) if document else None,
            condition=self.encoder.condition(document) if document else None,
        )

    def _find_earlier(self, batch: Batch, row: rows.Row, as_of: int) -> Document | None:
        """Return the document of a row as of a revision; `None` before its registration."""
        last = self._connection.execute(_LAST_OF_DOCUMENT, (batch.key, row[0], as_of)).fetchone()
        if last is None:
            if self._is_log_whole(batch):
                return None
            raise StoreBusy(
                f"revision {as_of} of batch {quote(batch.batch_id)} is no longer retained; "
                "start again from the current revision",
                retry_after_s=RETRY_AFTER_S,
            )
        identity = row[: len(rows.IDENTITY)]
        return rows.transition_from_row(
            (*last, *identity), batch.dataset_id, batch.batch_id
        ).document

    def _iterate(self, sql: str, parameters: tuple[object, ...]) -> Cursor:
        cursor = self._connection.execute(sql, parameters)
        self._cursors.append(cursor)
        return cursor


def _is_one_of(column: str, values: Collection[object]) -> str:
    return f" AND {column} IN ({', '.join('?' * len(values))})" if values else ""


def _named(dataset_ids: Collection[str] | None) -> tuple[str, tuple[str, ...]]:
    """Return the condition for some datasets, or for all, and its parameters."""
    if dataset_ids is None:
        return "", ()
    if 0 < len(dataset_ids) <= _FEW:
        return _is_one_of("dataset_id", dataset_ids), (*dataset_ids,)
    return _OF_LIST, (json.dumps(list(dataset_ids)),)

"""Encoding of documents and transitions: a part of a write transaction.

Bytes of the encoder are kept beside the columns, from which all is decided. They count only if they
are of the encoder's version and, for a document, of the revision and progress_seq of its row; every
change moves one of the two. Else another release wrote the row after them: the columns win, and the
bytes are made anew when they are read, until `encode` has reached the row.
"""

from __future__ import annotations

from stagecast.store.protocol import Encoder
from stagecast.store.sqlite import rows
from stagecast.store.sqlite.connection import Connection
from stagecast.store.sqlite.migrations import TO_ENCODE

# Rows to encode, by the indexes of them, and what is kept of them then.
_DOCUMENTS_TO_ENCODE = f"""
    SELECT batch, {rows.listed(rows.DOCUMENT)} FROM documents INDEXED BY documents_to_encode
    WHERE {TO_ENCODE["documents"]} LIMIT ?
"""
_ENCODE_DOCUMENT = """
    UPDATE documents SET encoded_identity = ?, encoded_rest = ?, encoder_version = ?,
        encoded_revision = revision, encoded_progress_seq = progress_seq
    WHERE batch = ? AND position = ?
"""
_TRANSITIONS_TO_ENCODE = f"""
    SELECT batch, {rows.listed(rows.LOG)} FROM transitions INDEXED BY transitions_to_encode
    WHERE {TO_ENCODE["transitions"]} LIMIT ?
"""
_ENCODE_TRANSITION = f"""
    UPDATE transitions SET {rows.assignments(rows.ENCODED_TRANSITION)}
    WHERE batch = ? AND revision = ?
"""
_NO_IDENTITY = (0, "", "", "{}", 0)  # it is no part of a condition


class EncodedWrites:
    """Encoding of rows that another release wrote."""

    _connection: Connection
    encoder: Encoder

    def encode(self, max_rows: int) -> bool:
        documents = self._connection.execute(_DOCUMENTS_TO_ENCODE, (max_rows,)).fetchall()
        self._connection.executemany(_ENCODE_DOCUMENT, map(self._encoded_document, documents))
        left = max_rows - len(documents)
        transitions = self._connection.execute(_TRANSITIONS_TO_ENCODE, (left,)).fetchall()
        self._connection.executemany(_ENCODE_TRANSITION, map(self._encoded_transition, transitions))
        return bool(documents or transitions)

    def _encoded_document(self, row: rows.Row) -> rows.Row:
        encoder, document = self.encoder, rows.document_from_row(row[1:], "", "")
        rest = encoder.condition(document) + encoder.last_change(document)
        return encoder.identity(document), rest, encoder.version, row[0], document.position

    def _encoded_transition(self, row: rows.Row) -> rows.Row:
        transition = rows.transition_from_row((*row[1:], *_NO_IDENTITY), "", "")
        document = transition.document
        encoded = self.encoder.condition(document) if document else None
        return encoded, self.encoder.version, row[0], transition.revision

"""Changes of batches: a part of a write transaction.

The calls of a transaction decide one after the other, each on what the calls before it have left.
Their changes are collected and written together, so that each row is written once for all of them:
before a call that reads or writes by itself, and at the end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from stagecast.errors import BatchNotFound
from stagecast.model import Batch, BatchEdit, Dataset, Document, move_dataset
from stagecast.store.lookups import get_batch, get_dataset
from stagecast.store.protocol import BatchName, Committed, Topic, Wanted
from stagecast.store.sqlite import rows
from stagecast.store.sqlite.known_batches import KnownBatch, KnownBatches
from stagecast.store.sqlite.read_transaction import LAST_CHANGE_SEQ, SqliteReadTransaction
from stagecast.store.sqlite.timers import (
    SET_TIMER_OF_SAVED,
    TimerWrites,
    timer_of_new,
    timer_of_saved,
)

T = TypeVar("T")

# The last progress_seq assigned by a server.
_SAVE_PROGRESS_SEQ = """
    INSERT INTO progress_epochs (batch, server_epoch, progress_seq) VALUES (?, ?, ?)
    ON CONFLICT (batch, server_epoch) DO UPDATE SET progress_seq = excluded.progress_seq
"""

# Update batches and datasets.
_SAVE_BATCH = f"UPDATE batches SET {rows.assignments(rows.BATCH_CONDITION)} WHERE id = ?"
_SAVE_DATASET = f"""
    UPDATE datasets SET {rows.assignments(rows.DATASET)}, change_seq = 1 + ({LAST_CHANGE_SEQ})
    WHERE dataset_id = ?
"""

# Insert documents.
_NEW_DOCUMENT = f"""
    INSERT INTO documents (batch, heard_at, due_at, {rows.listed(rows.NEW_DOCUMENT)})
    VALUES (?, ?, ?, {rows.placeholders(rows.NEW_DOCUMENT)})
"""

# Update documents; progress_seq changes only with counters that changed without a transition.
_SAVE_DOCUMENT = f"""
    UPDATE documents SET {SET_TIMER_OF_SAVED}, {rows.SAVED_DOCUMENT}
    WHERE batch = ? AND position = ?
"""

# Append to the log.
_NEW_TRANSITION = f"""
    INSERT INTO transitions (batch, {rows.listed(rows.NEW_TRANSITION)})
    VALUES (?, {rows.placeholders(rows.NEW_TRANSITION)})
"""

_Rows = tuple[Iterable[rows.Row], Iterable[rows.Row]]
"""Changed documents, and new transitions."""


@dataclass(frozen=True, slots=True)
class Prepared(Generic[T]):
    """What a call decided before it had the write lock, on the batch as of a transition."""

    edit: BatchEdit
    write_id: int
    result: T
    rows: _Rows


def prepare(
    tx: SqliteReadTransaction,
    name: BatchName,
    wanted: Wanted,
    decide: Callable[[BatchEdit], T],
    *,
    now: int,
    server_epoch: int,
) -> Prepared[T]:
    """Decide in a read transaction, so that other writers do not wait meanwhile.

    Raises:
        BatchNotFound: there is no such batch.
    """
    batch = get_batch(tx, *name)
    wanted_documents = _read_wanted(tx, batch, wanted)
    edit = _new_edit(batch, wanted_documents, now=now, server_epoch=server_epoch)
    write_id = _read_write_id(tx, batch)
    result = decide(edit)
    documents, transitions = _rows_of([edit], edit.now, rows.RowWriter(tx.encoder))
    return Prepared(edit, write_id, result, rows=([*documents], [*transitions]))


class ChangeWrites(SqliteReadTransaction, TimerWrites):
    """Changes of batches.

    Attributes:
        now: the commit time in microseconds.
        known: what is known of batches without reading.
        commits: what was saved or deleted so far, by topic.
    """

    now: int
    known: KnownBatches
    commits: dict[Topic, Committed | None]
    _server_epoch: int
    _pending: dict[int, BatchEdit]  # by the keys of batches, in the order of their transitions

    def change(
        self,
        name: BatchName,
        wanted: Wanted,
        decide: Callable[[BatchEdit], T],
        prepared: Prepared[T] | None = None,
    ) -> T:
        """Decide on a batch and keep the changes until `flush`.

        Raises:
            BatchNotFound: there is no such batch.
        """
        known = self._find_known(name)
        if known is None:
            raise BatchNotFound(*name)
        if prepared is not None and self._is_current(prepared, known):
            self.flush()
            self._keep(prepared.edit)
            self.flush(prepared.rows)
            return prepared.result
        edit = self._edit(known, wanted)
        result = decide(edit)
        self._keep(edit)
        return result

    def edit(self, wanted: Mapping[BatchName, Wanted]) -> Sequence[BatchEdit]:
        existing = ((self._find_known(name), of) for name, of in wanted.items())
        edits = [self._edit(known, of) for known, of in existing if known is not None]
        return sorted(edits, key=lambda edit: edit.batch.key)

    def save(self, *edits: BatchEdit) -> None:
        for edit in edits:
            self._keep(edit)
        self.flush()

    def flush(self, ready: _Rows | None = None) -> None:
        """Write the changes that were kept so far, with their rows if they are ready."""
        edits = [self._pending[key] for key in sorted(self._pending)]
        datasets = self._move_datasets(self._pending.values())
        self._pending.clear()
        self._save_heartbeats(edits, self.now)
        dirty = [edit for edit in edits if edit.dirty]
        if not dirty:
            return
        writer = rows.RowWriter(self.encoder)
        documents, transitions = ready or _rows_of(dirty, self.now, writer)
        for sql, parameters in (
            (_NEW_DOCUMENT, _new_documents(dirty, self.now, writer)),
            (_SAVE_DOCUMENT, documents),
            (_NEW_TRANSITION, transitions),
            (_SAVE_BATCH, _saved_batches(dirty)),
            (_SAVE_PROGRESS_SEQ, _saved_progress_seqs(dirty)),
        ):
            self._connection.executemany(sql, parameters)
        self._save_datasets(datasets)
        for edit in dirty:
            if edit.added and edit.batch.seal_after_us:
                self.set_idle_since(edit.batch, self.now)
            self._note_commit(edit)

    def _find_known(self, name: BatchName) -> KnownBatch | None:
        known = self.known.batches.get(name)
        if known is None and (batch := self.find_batch(*name)) is not None:
            known = self.known.add(batch)
        return known

    def _move_datasets(self, edits: Iterable[BatchEdit]) -> Mapping[str, Dataset]:
        """Return the datasets after changes; of those that ended, the last one counts."""
        moved: dict[str, Dataset] = {}
        for edit in edits:
            if edit.transitions:
                name = edit.batch.dataset_id
                dataset = moved.get(name) or self.known.datasets.get(name)
                moved[name] = move_dataset(
                    dataset or get_dataset(self, name), edit.before, edit.batch
                )
        return moved

    def _edit(self, known: KnownBatch, wanted: Wanted) -> BatchEdit:
        if wanted.states:
            self.flush()
            documents = _read_wanted(self, known.batch, wanted)
        else:
            ids = wanted.document_ids
            missing = [each for each in ids if each not in known.documents]
            if missing:
                self.known.add_documents(known, self.find_documents(known.batch, missing))
            there = known.documents
            documents = {each: there[each] for each in ids if each in there}
        return _new_edit(known.batch, documents, now=self.now, server_epoch=self._server_epoch)

    def _is_current(self, prepared: Prepared[Any], known: KnownBatch) -> bool:
        """Return whether the batch, and so its documents, are as they were decided on."""
        if known.batch != prepared.edit.before:
            return False
        return prepared.write_id == self._get_write_id(known)

    def _get_write_id(self, known: KnownBatch) -> int:
        """Return the `write_id` of the last transition that was written; 0 if there is none."""
        if known.write_id is None:
            known.write_id = _read_write_id(self, known.batch)
        return known.write_id

    def _keep(self, edit: BatchEdit) -> None:
        """Keep the changes of a call that was not refused."""
        if not (edit.dirty or edit.heartbeats):
            return
        batch = edit.batch
        known = self.known.batches.get((batch.dataset_id, batch.batch_id))
        if known is None:
            known = self.known.add(batch, write_id=0)
        if edit.dirty:
            self._get_write_id(known)  # while `known` is what the file has
        known.batch = batch
        self.known.add_documents(known, edit.added | edit.changed)
        pending = self._pending.setdefault(batch.key, edit)
        if pending is not edit:
            pending.absorb(edit)
        if edit.transitions:  # a sign of life does not end a batch once more
            self._pending[batch.key] = self._pending.pop(batch.key)

    def _note_commit(self, edit: BatchEdit) -> None:
        """Note what was written of a batch, for `commits`."""
        batch = edit.batch
        topic = batch.dataset_id, batch.batch_id
        known = self.known.batches[topic]
        earlier = self.commits.get(topic)
        if earlier is None:
            first = edit.before.revision if edit.before else 0
            earlier = Committed(
                before=(first, self._get_write_id(known)), batch=batch, transitions=()
            )
        self.commits[topic] = Committed(
            before=earlier.before,
            batch=batch,
            transitions=(*earlier.transitions, *edit.transitions),
        )
        if edit.transitions:
            known.write_id = edit.transitions[-1].write_id

    def _save_datasets(self, datasets: Mapping[str, Dataset]) -> None:
        """Write datasets in the order of their ids."""
        self.known.add_datasets(datasets)
        self._connection.executemany(
            _SAVE_DATASET,
            (
                (*rows.dataset_to_row(dataset), dataset_id)
                for dataset_id, dataset in sorted(datasets.items())
            ),
        )


def random_number() -> int:
    """Return a random number, unique among calls and servers."""
    return random.getrandbits(63)


def _new_edit(
    batch: Batch, documents: dict[str, Document], *, now: int, server_epoch: int
) -> BatchEdit:
    return BatchEdit(
        batch,
        documents,
        new=False,
        now=now,
        write_id=random_number(),
        server_epoch=server_epoch,
    )


def _read_write_id(tx: SqliteReadTransaction, batch: Batch) -> int:
    return tx.find_write_id(batch, batch.revision) or 0


def _read_wanted(tx: SqliteReadTransaction, batch: Batch, wanted: Wanted) -> dict[str, Document]:
    """Return the documents in some states, in the order of registration."""
    documents = tx.iterate_documents(batch, states=wanted.states)
    return {document.document_id: document for document in documents}


def _rows_of(edits: Iterable[BatchEdit], now: int, writer: rows.RowWriter) -> _Rows:
    return _saved_documents(edits, now, writer), _new_transitions(edits, writer)


def _new_documents(
    edits: Iterable[BatchEdit], now: int, writer: rows.RowWriter
) -> Iterator[rows.Row]:
    for edit in edits:
        timer = timer_of_new(edit.batch, now)
        for document in edit.added.values():
            yield edit.batch.key, *timer, *writer.new_document(document)


def _saved_documents(
    edits: Iterable[BatchEdit], now: int, writer: rows.RowWriter
) -> Iterator[rows.Row]:
    for edit in edits:
        key, progress_seqs = edit.batch.key, edit.progress_seqs
        for document_id, document in edit.changed.items():
            timer = timer_of_saved(document, edit, now)
            saved = writer.saved_document(document, progress_seqs.get(document_id))
            yield *timer, *saved, key, document.position


def _new_transitions(edits: Iterable[BatchEdit], writer: rows.RowWriter) -> Iterator[rows.Row]:
    for edit in edits:
        key = edit.batch.key
        for transition in edit.transitions:
            yield key, *writer.transition(transition)


def _saved_batches(edits: Iterable[BatchEdit]) -> Iterator[rows.Row]:
    return ((*rows.batch_condition_to_row(edit.batch), edit.batch.key) for edit in edits)


def _saved_progress_seqs(edits: Iterable[BatchEdit]) -> Iterator[rows.Row]:
    saved = (edit.batch for edit in edits if edit.progress_seqs)
    return ((batch.key, batch.server_epoch, batch.progress_seq) for batch in saved)

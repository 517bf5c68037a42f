"""Write transactions of the SQLite store.

A deletion takes effect at once, by a rename to an id that cannot be requested; rows are swept
later, in steps short enough not to delay other writers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TypeVar

from stagecast.errors import StagecastError
from stagecast.model import (
    Batch,
    BatchEdit,
    BatchState,
    Creation,
    Dataset,
    DocumentCounts,
    evolve,
    remove_batch,
)
from stagecast.store.lookups import get_dataset
from stagecast.store.protocol import Encoder
from stagecast.store.sqlite import rows
from stagecast.store.sqlite.changes import ChangeWrites, random_number
from stagecast.store.sqlite.connection import Connection
from stagecast.store.sqlite.encoded import EncodedWrites
from stagecast.store.sqlite.keys import KeyWrites
from stagecast.store.sqlite.known_batches import KnownBatches
from stagecast.store.sqlite.read_transaction import LAST_CHANGE_SEQ
from stagecast.store.sqlite.trimming import TrimmingWrites

T = TypeVar("T")

# A batch by the request that created it.
_BATCH_BY_REQUEST = f"""
    SELECT {rows.listed(rows.BATCH, "batches")}
    FROM batches JOIN datasets ON datasets.id = batches.dataset
    WHERE datasets.dataset_id = ? AND batches.request_id = ?
"""

# The call that created a batch.
_CREATION = "SELECT fingerprint, created_documents, request_id FROM batches WHERE id = ?"

# Insert a dataset, with its first batch.
_NEW_DATASET = f"""
    INSERT INTO datasets ({rows.listed(rows.DATASET)})
    VALUES ({rows.placeholders(rows.DATASET)})
"""

# Insert a batch, before its first transition.
_NEW_BATCH_COLUMNS = (
    *("dataset", "batch_id", "labels", "start_after_us", "stall_after_us", "fail_after_us"),
    *("seal_after_us", "idle_since", "created_at"),
    *("fingerprint", "created_documents", "request_id"),
    *rows.BATCH_CONDITION,
)
_NEW_BATCH = f"""
    INSERT INTO batches ({rows.listed(_NEW_BATCH_COLUMNS)})
    VALUES ((SELECT id FROM datasets WHERE dataset_id = ?),
        {rows.placeholders(_NEW_BATCH_COLUMNS[1:])})
"""

# Hide a deleted batch: no valid id begins with a slash, its request id is free again, and it leaves
# the indexes of ended batches and of those to seal.
_HIDE_BATCH = """
    UPDATE batches SET batch_id = '/' || id, request_id = NULL, ended_at = NULL, seal_after_us = 0
    WHERE id = ?
"""
# If several ended in one commit, the last one is that of the dataset's last_ended.
_LAST_ENDED = """
    SELECT state FROM batches INDEXED BY batches_by_end
    WHERE dataset = (SELECT id FROM datasets WHERE dataset_id = ?)
        AND ended_at IS NOT NULL AND state > 0
    ORDER BY ended_at DESC, state = ? DESC, id DESC LIMIT 1
"""

# Hide a deleted dataset with its batches.
_BATCH_IDS = """
    SELECT batch_id FROM batches
    WHERE dataset = (SELECT id FROM datasets WHERE dataset_id = ?) AND state > 0
"""
_HIDE_BATCHES = """
    UPDATE batches SET batch_id = '/' || id, request_id = NULL, ended_at = NULL, seal_after_us = 0
    WHERE dataset = (SELECT id FROM datasets WHERE dataset_id = ?) AND state > 0
"""
_HIDE_DATASET = "UPDATE datasets SET dataset_id = '/' || id WHERE dataset_id = ?"
_NEW_REMOVAL = f"""
    INSERT INTO removed_datasets (change_seq, dataset_id) VALUES (1 + ({LAST_CHANGE_SEQ}), ?)
"""

# Delete the rows of hidden batches in steps, the batch itself last.
_HIDDEN_BATCH = "SELECT id FROM batches WHERE state = 0 LIMIT 1"
_SWEEP_TRANSITIONS = """
    DELETE FROM transitions WHERE batch = :batch AND revision < :limit
        + (SELECT min(revision) FROM transitions WHERE batch = :batch)
"""
_SWEEP_DOCUMENTS = """
    DELETE FROM documents WHERE batch = :batch AND position < :limit
        + (SELECT min(position) FROM documents WHERE batch = :batch)
"""
_SWEEP_EPOCHS = "DELETE FROM progress_epochs WHERE batch = :batch"
_SWEEP_BATCH = "DELETE FROM batches WHERE id = :batch"
_SWEEP_DATASET = """
    DELETE FROM datasets WHERE id = (
        SELECT id FROM datasets WHERE dataset_id < '0'
            AND NOT EXISTS (SELECT 1 FROM batches WHERE dataset = datasets.id)
        LIMIT 1
    )
"""


class SqliteWriteTransaction(ChangeWrites, EncodedWrites, KeyWrites, TrimmingWrites):
    """Reads and writes on one connection.

    Args:
        connection: of the writer.
        encoder: makes the bytes that are kept beside the columns.
        now: the commit time in microseconds.
        server_epoch: the random number of this server.
        known: what is known of batches.
    """

    def __init__(
        self,
        connection: Connection,
        encoder: Encoder,
        *,
        now: int,
        server_epoch: int,
        known: KnownBatches,
    ) -> None:
        super().__init__(connection, encoder)
        self.now = now
        self.known = known
        self.commits = {}
        self._server_epoch = server_epoch
        self._pending = {}

    def write(self, call: Callable[[SqliteWriteTransaction], T]) -> T:
        """Run a call that reads and writes by itself.

        Raises:
            RuntimeError: it was refused after it had written.
        """
        self.flush()
        written = self._connection.total_changes
        try:
            return call(self)
        except StagecastError as error:
            if self._connection.total_changes != written:
                raise RuntimeError("a call was refused after it had written") from error
            raise

    def get_creation(self, batch: Batch) -> Creation:
        [(fingerprint, documents, request_id)] = self._connection.execute(_CREATION, (batch.key,))
        return Creation(fingerprint=fingerprint, documents=documents, request_id=request_id)

    def find_batch_by_request(self, dataset_id: str, request_id: str) -> Batch | None:
        row = self._connection.execute(_BATCH_BY_REQUEST, (dataset_id, request_id)).fetchone()
        return rows.batch_from_row(row, dataset_id) if row else None

    def new_batch(self, batch: Batch, creation: Creation) -> BatchEdit:
        if self.find_dataset(batch.dataset_id) is None:
            self._connection.execute(
                _NEW_DATASET, rows.dataset_to_row(_empty_dataset(batch.dataset_id, self.now))
            )
        cursor = self._connection.execute(
            _NEW_BATCH,
            (
                batch.dataset_id,
                batch.batch_id,
                rows.labels_to_text(dict(batch.labels)),
                batch.start_after_us,
                batch.stall_after_us,
                batch.fail_after_us,
                batch.seal_after_us,
                self.now,
                batch.created_at,
                creation.fingerprint,
                creation.documents,
                creation.request_id,
                *rows.batch_condition_to_row(batch),
            ),
        )
        keyed = evolve(batch, key=cursor.lastrowid or 0)
        return BatchEdit(
            keyed, new=True, now=self.now, write_id=random_number(), server_epoch=self._server_epoch
        )

    def name_dataset(self, dataset_id: str, display_name: str) -> None:
        dataset = self.known.datasets.get(dataset_id) or get_dataset(self, dataset_id)
        if dataset.display_name != display_name:
            self._save_datasets({dataset_id: replace(dataset, display_name=display_name)})
            self.commits[dataset_id,] = None

    def delete_batches(self, batches: Collection[Batch]) -> None:
        datasets: dict[str, Dataset] = {}
        for batch in sorted(batches, key=lambda batch: batch.key):
            self._connection.execute(_HIDE_BATCH, (batch.key,))
            dataset_id = batch.dataset_id
            dataset = datasets.get(dataset_id) or get_dataset(self, dataset_id)
            datasets[dataset_id] = self._without(batch, dataset)
            self.commits[dataset_id, batch.batch_id] = None
        self._save_datasets(datasets)
        self.known.forget()

    def delete_dataset(self, dataset: Dataset) -> None:
        dataset_id = dataset.dataset_id
        names = self._connection.execute(_BATCH_IDS, (dataset_id,)).fetchall()
        self._connection.execute(_HIDE_BATCHES, (dataset_id,))
        self._connection.execute(_HIDE_DATASET, (dataset_id,))
        self._connection.execute(_NEW_REMOVAL, (dataset_id,))
        self.commits |= dict.fromkeys([(dataset_id,), *((dataset_id, name) for (name,) in names)])
        self.known.forget()

    def sweep(self, max_rows: int) -> bool:
        left = max_rows
        while left > 0 and (swept := self._sweep_piece(left)):
            left -= swept
        return left < max_rows

    def _sweep_piece(self, max_rows: int) -> int:
        """Delete rows of one batch from one table, or a dataset; return how many."""
        hidden = self._connection.execute(_HIDDEN_BATCH).fetchone()
        if hidden is None:
            return self._connection.execute(_SWEEP_DATASET).rowcount
        of_batch = {"batch": hidden[0], "limit": max_rows}
        for piece in (_SWEEP_TRANSITIONS, _SWEEP_DOCUMENTS, _SWEEP_EPOCHS):
            if swept := self._connection.execute(piece, of_batch).rowcount:
                return swept
        return self._connection.execute(_SWEEP_BATCH, of_batch).rowcount

    def _without(self, batch: Batch, dataset: Dataset) -> Dataset:
        """Return the dataset without a batch that was hidden."""
        params = (batch.dataset_id, dataset.last_ended)
        ended = self._connection.execute(_LAST_ENDED, params).fetchone()
        last_ended = BatchState(ended[0]) if ended else None
        return remove_batch(dataset, batch, last_ended=last_ended, now=self.now)


def _empty_dataset(dataset_id: str, now: int) -> Dataset:
    return Dataset(
        dataset_id=dataset_id,
        display_name="",
        batches=0,
        open_batches=0,
        pending_batches=0,
        last_ended=None,
        counts=DocumentCounts(),
        updated_at=now,
    )

"""Lookups that raise a NotFoundError, or an error for what belongs to another history."""

from __future__ import annotations

from typing import Protocol

from stagecast.errors import BatchNotFound, DatasetNotFound, DocumentNotFound, HistoryChanged
from stagecast.escaping import quote
from stagecast.model import Batch, Dataset, EncodedDocument, find_similar, other_forms
from stagecast.store.protocol import Head, ReadTransaction


def get_dataset(tx: ReadTransaction, dataset_id: str) -> Dataset:
    """Return a dataset.

    Raises:
        DatasetNotFound: it does not exist.
    """
    dataset = tx.find_dataset(dataset_id)
    if dataset is None:
        raise DatasetNotFound(dataset_id)
    return dataset


def get_batch(tx: ReadTransaction, dataset_id: str, batch_id: str) -> Batch:
    """Return a batch.

    Raises:
        BatchNotFound: it does not exist.
    """
    batch = tx.find_batch(dataset_id, batch_id)
    if batch is None:
        raise BatchNotFound(dataset_id, batch_id)
    return batch


def get_encoded_document(tx: ReadTransaction, batch: Batch, document_id: str) -> EncodedDocument:
    """Return a document of a batch as it is sent.

    Raises:
        DocumentNotFound: it does not exist.
    """
    document = tx.find_encoded_document(batch, document_id)
    if document is None:
        similar = find_similar(document_id, tx.find_documents(batch, other_forms(document_id)))
        raise DocumentNotFound(batch.dataset_id, batch.batch_id, document_id, similar=similar)
    return document


def head_of(batch: Batch) -> Head:
    """Return the head of a batch."""
    return (batch.key, batch.revision, batch.progress_seq, batch.updated_at)


def get_write_id(tx: ReadTransaction, batch: Batch) -> int:
    """Return the `write_id` of the batch's last transition, which is always retained."""
    write_id = tx.find_write_id(batch, batch.revision)
    if write_id is None:
        raise AssertionError(f"batch {batch.key} has no transition {batch.revision}")
    return write_id


class Position(Protocol):
    """A position in the history of a batch, as in a resume token."""

    @property
    def revision(self) -> int: ...  # noqa: D102 - as in `ResumeToken`
    @property
    def write_id(self) -> int: ...  # noqa: D102
    @property
    def progress_seq(self) -> int: ...  # noqa: D102
    @property
    def server_epoch(self) -> int: ...  # noqa: D102


def check_history(
    tx: ReadTransaction, batch: Batch, position: Position, *, holder: str = "resume token"
) -> bool:
    """Check that a position is of the history of its batch, at every read.

    Args:
        tx: the read.
        batch: the batch in it.
        position: the position.
        holder: what the caller has it in.

    Returns:
        Whether the log still has the position's own transition, which shows that.

    Raises:
        HistoryChanged: it is of another one: the file was restored from a copy, or the batch was
            deleted and created again.
    """
    write_id = tx.find_write_id(batch, position.revision)
    # A restored copy may have the transition, but older counters.
    known = not position.progress_seq or position.progress_seq <= tx.find_progress_seq(
        batch, position.server_epoch
    )
    if write_id == position.write_id and known:
        return True
    if write_id is None and position.revision <= batch.revision:
        return False
    raise HistoryChanged(
        f"{holder} does not match the history of batch {quote(batch.batch_id)}: it is of revision "
        f"{position.revision} of another history (current revision: {batch.revision})",
        dataset_id=batch.dataset_id,
        batch_id=batch.batch_id,
        revision=position.revision,
    )

"""Lookups that raise a NotFoundError."""

from __future__ import annotations

from stagecast.errors import BatchNotFound, DatasetNotFound, DocumentNotFound
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

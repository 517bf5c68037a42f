"""Lookups that raise a NotFoundError."""

from __future__ import annotations

import unicodedata

from stagecast.errors import BatchNotFound, DatasetNotFound, DocumentNotFound
from stagecast.model import Batch, Dataset, Document
from stagecast.store.protocol import ReadTransaction


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


def get_document(tx: ReadTransaction, batch: Batch, document_id: str) -> Document:
    """Return a document of a batch.

    Raises:
        DocumentNotFound: it does not exist.
    """
    document = tx.find_documents(batch, [document_id]).get(document_id)
    if document is None:
        raise document_not_found(tx, batch, document_id)
    return document


def document_not_found(tx: ReadTransaction, batch: Batch, document_id: str) -> DocumentNotFound:
    """Return the error for a missing document.

    It names a document whose id differs only in Unicode normalisation and looks the same: file
    names of macOS are decomposed (NFD), typed text is composed (NFC).
    """
    forms = {unicodedata.normalize(form, document_id): form for form in ("NFC", "NFD")}
    others = forms.keys() - {document_id}
    similar = next(iter(tx.find_documents(batch, others)), None) if others else None
    return DocumentNotFound(
        batch.dataset_id,
        batch.batch_id,
        document_id,
        similar=(similar, forms[similar]) if similar else None,
    )


def get_write_id(tx: ReadTransaction, batch: Batch) -> int:
    """Return the `write_id` of the batch's last transition, which is always retained."""
    write_id = tx.find_write_id(batch, batch.revision)
    if write_id is None:
        raise AssertionError(f"batch {batch.key} has no transition {batch.revision}")
    return write_id

"""One thing, or the error that says that it is not there."""

from __future__ import annotations

import unicodedata

from stagecast.errors import BatchNotFound, DatasetNotFound, DocumentNotFound
from stagecast.model import Batch, Dataset, Document
from stagecast.store.protocol import ReadTransaction


def get_dataset(tx: ReadTransaction, dataset_id: str) -> Dataset:
    """Return a dataset.

    Raises:
        DatasetNotFound: it is not there.
    """
    dataset = tx.find_dataset(dataset_id)
    if dataset is None:
        raise DatasetNotFound(dataset_id)
    return dataset


def get_batch(tx: ReadTransaction, dataset_id: str, batch_id: str) -> Batch:
    """Return a batch.

    Raises:
        BatchNotFound: it is not there.
    """
    batch = tx.find_batch(dataset_id, batch_id)
    if batch is None:
        raise BatchNotFound(dataset_id, batch_id)
    return batch


def get_document(tx: ReadTransaction, batch: Batch, document_id: str) -> Document:
    """Return a document of a batch.

    Raises:
        DocumentNotFound: it is not there.
    """
    document = tx.find_documents(batch, [document_id]).get(document_id)
    if document is None:
        raise document_not_found(tx, batch, document_id)
    return document


def document_not_found(tx: ReadTransaction, batch: Batch, document_id: str) -> DocumentNotFound:
    """Return the error for a document that is not there.

    It names one that only differs in Unicode normalisation, which looks the same: file names of
    macOS are decomposed (NFD), what people type is composed (NFC).
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
    """Return the call that made the batch's last transition, which the log never lets go."""
    write_id = tx.find_write_id(batch, batch.revision)
    if write_id is None:
        raise AssertionError(f"batch {batch.key} has no transition {batch.revision}")
    return write_id

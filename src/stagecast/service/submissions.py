"""Submission of batches and their documents.

Creating a batch is a write; adding documents and sealing are changes of a batch, each decided by a
pure function. Every refusal comes before the first row is written.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from stagecast.errors import BatchExists, BatchSealed, DocumentExists
from stagecast.escaping import quote
from stagecast.model import (
    Batch,
    BatchEdit,
    Creation,
    Document,
    DocumentCounts,
    NewBatch,
    NewDocument,
    SegmentTotals,
    Visibility,
    make_batch_id,
    make_document_id,
    register,
)
from stagecast.store import Store, Wanted, WriteTransaction


@dataclass(frozen=True, kw_only=True, slots=True)
class Submitted:
    """A batch, and the ids of the documents of a call, in its order."""

    batch: Batch
    document_ids: Sequence[str]


class Submissions:
    """The submitters' side. Methods return after the commit, and are restricted to `visible`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create_batch(self, new: NewBatch, *, visible: Visibility) -> Submitted:
        """Create a batch with its documents; a repeated call returns the result of the first.

        Raises:
            BatchExists: the id, or the request id, belongs to a batch with different content.
            DatasetNotFound: the dataset is not `visible`.
        """
        return await self._store.write(lambda tx: _create(tx, new), visible=visible)

    async def add_documents(
        self,
        dataset_id: str,
        batch_id: str,
        documents: Sequence[NewDocument],
        *,
        visible: Visibility,
    ) -> Submitted:
        """Register more documents; existing ones with the same content are skipped.

        Raises:
            BatchNotFound: there is no such batch.
            DocumentExists: an id belongs to a document with different content.
            BatchSealed: there are new documents, and the batch is sealed.
        """
        named = {new.document_id for new in documents if new.document_id}
        return await self._store.change(
            (dataset_id, batch_id),
            Wanted(document_ids=named),
            partial(_add, documents=documents),
            visible=visible,
        )

    async def seal_batch(self, dataset_id: str, batch_id: str, *, visible: Visibility) -> Batch:
        """Declare that no more documents follow.

        Raises:
            BatchNotFound: there is no such batch.
        """
        return await self._store.change((dataset_id, batch_id), Wanted(), _seal, visible=visible)


def _seal(edit: BatchEdit) -> Batch:
    edit.seal()
    return edit.batch


def _create(tx: WriteTransaction, new: NewBatch) -> Submitted:
    fingerprint = _fingerprint(new)
    existing = _find_existing(tx, new)
    if existing is not None:
        submitted = _created_before(tx, existing, fingerprint, new)
        _name_dataset(tx, new)
        return submitted
    by_request = new.request_id if new.request_id and not new.batch_id else None
    creation = Creation(
        fingerprint=fingerprint, documents=len(new.documents), request_id=by_request
    )
    batch_id = new.batch_id or _unused_batch_id(tx, new.dataset_id)
    edit = tx.new_batch(_empty_batch(new, batch_id, tx.now), creation)
    edit.create()
    document_ids = _register(edit, new.documents)
    if not new.more_documents_follow:
        edit.seal()
    _name_dataset(tx, new)
    tx.save(edit)
    return Submitted(batch=edit.batch, document_ids=document_ids)


def _name_dataset(tx: WriteTransaction, new: NewBatch) -> None:
    """Give the dataset of a batch its display name; without one it keeps its own."""
    if new.dataset_name:
        tx.name_dataset(new.dataset_id, new.dataset_name)


def _empty_batch(new: NewBatch, batch_id: str, now: int) -> Batch:
    """Return the batch before its first transition."""
    return Batch(
        key=0,
        dataset_id=new.dataset_id,
        batch_id=batch_id,
        labels=new.labels,
        start_after_us=new.start_after_us,
        stall_after_us=new.stall_after_us,
        fail_after_us=new.fail_after_us,
        seal_after_us=new.seal_after_us,
        created_at=now,
        sealed=False,
        counts=DocumentCounts(),
        segments=SegmentTotals(),
        revision=0,
        progress_seq=0,
        server_epoch=0,
        updated_at=now,
        ended_at=None,
    )


def _find_existing(tx: WriteTransaction, new: NewBatch) -> Batch | None:
    if new.batch_id:
        return tx.find_batch(new.dataset_id, new.batch_id)
    if new.request_id:
        return tx.find_batch_by_request(new.dataset_id, new.request_id)
    return None


def _created_before(
    tx: WriteTransaction, batch: Batch, fingerprint: bytes, new: NewBatch
) -> Submitted:
    creation = tx.get_creation(batch)
    if creation.fingerprint != fingerprint:
        by_request = "" if new.batch_id else f" by request {quote(new.request_id)}"
        raise BatchExists(
            f"batch {quote(batch.batch_id)} of dataset {quote(batch.dataset_id)} was "
            f"already created{by_request} with different content",
            dataset_id=batch.dataset_id,
            batch_id=batch.batch_id,
        )
    first = itertools.islice(tx.iterate_documents(batch), creation.documents)
    return Submitted(batch=batch, document_ids=[document.document_id for document in first])


def _unused_batch_id(tx: WriteTransaction, dataset_id: str) -> str:
    while True:
        batch_id = make_batch_id(tx.now)
        if tx.find_batch(dataset_id, batch_id) is None:
            return batch_id


def _fingerprint(new: NewBatch) -> bytes:
    """Return a digest of the content that a repeated call must share, with the caller's ids."""
    content: list[object] = [
        [[d.document_id, d.display_name, sorted(d.labels.items())] for d in new.documents],
        sorted(new.labels.items()),
        new.more_documents_follow,
        new.stall_after_us,
        new.fail_after_us,
    ]
    # Only if they are used, so that fingerprints of an older release stay valid.
    if new.start_after_us or new.seal_after_us:
        content += [new.start_after_us, new.seal_after_us]
    return hashlib.sha256(json.dumps(content).encode()).digest()


def _add(edit: BatchEdit, documents: Sequence[NewDocument]) -> Submitted:
    known = edit.documents
    for new in documents:
        if new.document_id in known:
            _check_same(known[new.document_id], new)
    added = [new for new in documents if new.document_id not in known]
    if added and edit.batch.sealed:
        dataset_id, batch_id = edit.batch.dataset_id, edit.batch.batch_id
        raise BatchSealed(
            f"batch {quote(batch_id)} of dataset {quote(dataset_id)} is sealed; add the "
            "documents to a new batch",
            dataset_id=dataset_id,
            batch_id=batch_id,
        )
    registered = iter(_register(edit, added))
    ids = [new.document_id if new.document_id in known else next(registered) for new in documents]
    return Submitted(batch=edit.batch, document_ids=ids)


def _check_same(document: Document, new: NewDocument) -> None:
    if (document.display_name, document.labels) != (new.display_name, new.labels):
        raise DocumentExists(
            f"document {quote(new.document_id)} of batch {quote(document.batch_id)} was already "
            "registered with different content",
            dataset_id=document.dataset_id,
            batch_id=document.batch_id,
            document_id=document.document_id,
        )


def _register(edit: BatchEdit, documents: Sequence[NewDocument]) -> list[str]:
    """Append documents to the batch and return their ids, generated where left out."""
    document_ids = [new.document_id or make_document_id() for new in documents]
    first = edit.batch.counts.total
    for position, (document_id, new) in enumerate(
        zip(document_ids, documents, strict=True), start=first
    ):
        edit.register(
            register(
                dataset_id=edit.batch.dataset_id,
                batch_id=edit.batch.batch_id,
                document_id=document_id,
                position=position,
                display_name=new.display_name,
                labels=new.labels,
                now=edit.now,
            )
        )
    return document_ids

"""What readers ask once: gRPC and REST ask the same questions here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from stagecast.errors import (
    BatchNotFound,
    DatasetNotFound,
    DocumentNotFound,
    FieldInvalid,
    TokenInvalid,
)
from stagecast.model import (
    MESSAGE_BYTES,
    Batch,
    Dataset,
    Document,
    DocumentQuery,
    PageToken,
    ResumeToken,
    size_bound,
)
from stagecast.store import Reading, Store

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentPage:
    """Documents in the order of registration; an empty `next_page_token` ends the list.

    `revision` and `resume_token` are of the moment of the first page: a watch from there misses
    nothing.
    """

    documents: Sequence[Document]
    next_page_token: str
    revision: int
    resume_token: str


class Queries:
    """The read side. Every method sees one moment of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get_dataset(self, dataset_id: str) -> Dataset:
        """Return a dataset.

        Raises:
            DatasetNotFound: it is not there.
        """
        dataset = await self._store.read(lambda tx: tx.find_dataset(dataset_id))
        if dataset is None:
            raise DatasetNotFound(dataset_id)
        return dataset

    async def find_datasets(self, dataset_ids: Collection[str] | None) -> list[Dataset]:
        """Return those of the datasets that are there, or all, in the order of their ids."""
        return await self._store.read(lambda tx: tx.list_datasets(dataset_ids))

    async def get_batch(self, dataset_id: str, batch_id: str) -> Batch:
        """Return a batch.

        Raises:
            BatchNotFound: it is not there.
        """
        return await self._store.read(lambda tx: _get_batch(tx, dataset_id, batch_id))

    async def get_document(self, dataset_id: str, batch_id: str, document_id: str) -> Document:
        """Return a document.

        Raises:
            BatchNotFound, DocumentNotFound: it is not there.
        """

        def get(tx: Reading) -> Document:
            batch = _get_batch(tx, dataset_id, batch_id)
            document = tx.find_documents(batch, [document_id]).get(document_id)
            if document is None:
                raise DocumentNotFound(dataset_id, batch_id, document_id)
            return document

        return await self._store.read(get)

    async def list_documents(self, query: DocumentQuery) -> DocumentPage:
        """Return a page of a batch's documents.

        Raises:
            BatchNotFound: there is no such batch.
            FieldInvalid: the page token is malformed, or of another query.
        """
        return await self._store.read(lambda tx: _list_documents(tx, query))

    async def render_documents(
        self, dataset_id: str, batch_id: str, render: Callable[[Iterator[Document]], T]
    ) -> T:
        """Let `render` make something of all documents of a batch, off the event loop.

        Raises:
            DatasetNotFound, BatchNotFound: it is not there.
        """

        def read(tx: Reading) -> T:
            if tx.find_dataset(dataset_id) is None:
                raise DatasetNotFound(dataset_id)
            return render(tx.iterate_documents(_get_batch(tx, dataset_id, batch_id)))

        return await self._store.read(read)


def _get_batch(tx: Reading, dataset_id: str, batch_id: str) -> Batch:
    batch = tx.find_batch(dataset_id, batch_id)
    if batch is None:
        raise BatchNotFound(dataset_id, batch_id)
    return batch


def _list_documents(tx: Reading, query: DocumentQuery) -> DocumentPage:
    batch = _get_batch(tx, query.dataset_id, query.batch_id)
    question = (query.dataset_id, query.batch_id, sorted(query.states), sorted(query.stages))
    if query.page_token:
        page = PageToken.decode(query.page_token, *question)
    else:
        page = PageToken(position=-1, resume_token=_token_now(tx, batch).encode())
    found = tx.iterate_documents(
        batch, after_position=page.position, states=query.states, stages=query.stages
    )
    documents, more = _fill(found, query.page_size)
    try:
        start = ResumeToken.decode(
            page.resume_token, dataset_id=query.dataset_id, batch_id=query.batch_id
        )
    except TokenInvalid:  # only a forged page token bears one
        raise FieldInvalid("page_token", "malformed") from None
    following = PageToken(
        position=documents[-1].position if documents else -1, resume_token=page.resume_token
    )
    return DocumentPage(
        documents=documents,
        next_page_token=following.encode(*question) if more else "",
        revision=start.revision,
        resume_token=page.resume_token,
    )


def _fill(found: Iterator[Document], most: int) -> tuple[list[Document], bool]:
    """Take documents until the page or its message is full; True if there are more."""
    documents: list[Document] = []
    size = 0
    for document in found:
        size += size_bound(document)
        if documents and (len(documents) == most or size > MESSAGE_BYTES):
            return documents, True
        documents.append(document)
    return documents, False


def _token_now(tx: Reading, batch: Batch) -> ResumeToken:
    return ResumeToken(
        dataset_id=batch.dataset_id,
        batch_id=batch.batch_id,
        revision=batch.revision,
        call=tx.find_call(batch, batch.revision) or 0,
        serial=batch.progress_serial,
    )

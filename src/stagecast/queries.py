"""What readers ask once: gRPC and REST ask the same questions here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from stagecast.errors import FieldInvalid, TokenInvalid
from stagecast.model import (
    Batch,
    Dataset,
    Document,
    DocumentQuery,
    PageToken,
    ResumeToken,
    size_bound,
    take_page,
)
from stagecast.store import Reading, Store, get_batch, get_call, get_dataset, get_document

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
        return await self._store.read(lambda tx: get_dataset(tx, dataset_id))

    async def find_datasets(self, dataset_ids: Collection[str] | None) -> list[Dataset]:
        """Return those of the datasets that are there, or all, in the order of their ids."""
        return await self._store.read(lambda tx: tx.find_datasets(dataset_ids))

    async def get_batch(self, dataset_id: str, batch_id: str) -> Batch:
        """Return a batch.

        Raises:
            BatchNotFound: it is not there.
        """
        return await self._store.read(lambda tx: get_batch(tx, dataset_id, batch_id))

    async def get_document(self, dataset_id: str, batch_id: str, document_id: str) -> Document:
        """Return a document.

        Raises:
            BatchNotFound, DocumentNotFound: it is not there.
        """

        def get(tx: Reading) -> Document:
            return get_document(tx, get_batch(tx, dataset_id, batch_id), document_id)

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
            get_dataset(tx, dataset_id)
            return render(tx.iterate_documents(get_batch(tx, dataset_id, batch_id)))

        return await self._store.read(read)


def _list_documents(tx: Reading, query: DocumentQuery) -> DocumentPage:
    batch = get_batch(tx, query.dataset_id, query.batch_id)
    question = (query.dataset_id, query.batch_id, sorted(query.states), sorted(query.stages))
    if query.page_token:
        page = PageToken.decode(query.page_token, *question)
    else:
        page = PageToken(position=-1, resume_token=_token_now(tx, batch).encode())
    found = tx.iterate_documents(
        batch, after_position=page.position, states=query.states, stages=query.stages
    )
    documents, following = take_page(found, size_bound, most=query.page_size)
    try:
        start = ResumeToken.decode(
            page.resume_token, dataset_id=query.dataset_id, batch_id=query.batch_id
        )
    except TokenInvalid:  # only a forged page token bears one
        raise FieldInvalid("page_token", "malformed") from None
    position = documents[-1].position if documents else -1
    further = PageToken(position=position, resume_token=page.resume_token)
    return DocumentPage(
        documents=documents,
        next_page_token=further.encode(*question) if following else "",
        revision=start.revision,
        resume_token=page.resume_token,
    )


def _token_now(tx: Reading, batch: Batch) -> ResumeToken:
    return ResumeToken(
        dataset_id=batch.dataset_id,
        batch_id=batch.batch_id,
        revision=batch.revision,
        call=get_call(tx, batch),
        serial=batch.progress_serial,
        mark=batch.progress_mark,
    )

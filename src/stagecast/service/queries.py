"""Queries, shared by gRPC and REST."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from stagecast.model import (
    Batch,
    BatchQuery,
    Dataset,
    DatasetQuery,
    DocumentQuery,
    EncodedDocument,
    EncodedTransition,
    PageItems,
    PageToken,
    ResumeToken,
    TransitionQuery,
    Visibility,
    batch_size_bound,
    dataset_size_bound,
    document_size,
    take_page,
    transition_size,
)
from stagecast.service.recent_reads import RecentReads
from stagecast.store import (
    BatchName,
    ReadTransaction,
    Store,
    check_history,
    get_batch,
    get_dataset,
    get_encoded_document,
    get_write_id,
)

T = TypeVar("T")


_SMALL = 16_384  # bytes of a list that is read on the event loop: within 0.2 ms


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed(Generic[T]):
    """A page of a list; an empty `next_page_token` ends it."""

    items: T
    next_page_token: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentPage(Generic[T]):
    """Documents in the order of registration; an empty `next_page_token` ends the list.

    `revision` and `resume_token` are of the first page: a watch from there misses nothing.
    """

    documents: T
    next_page_token: str
    revision: int
    resume_token: str


class Queries:
    """The read side. Every method reads one state of the store, restricted to `visible`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recent = RecentReads(store)

    async def get_dataset(
        self, dataset_id: str, render: Callable[[Dataset], bytes], *, visible: Visibility
    ) -> bytes:
        """Return a dataset, rendered; as it is kept, it is rendered once.

        Raises:
            DatasetNotFound: there is no such dataset.
        """
        return await self._recent.read(
            dataset_id, lambda tx: render(get_dataset(tx, dataset_id)), visible=visible
        )

    async def list_datasets(
        self, query: DatasetQuery, *, visible: Visibility
    ) -> Listed[Sequence[Dataset]]:
        """Return a page of the datasets, in the order of their ids.

        Raises:
            FieldInvalid: the page token is malformed, or of another query.
        """
        return await self._store.read(lambda tx: _list_datasets(tx, query), visible=visible)

    async def list_batches(
        self, query: BatchQuery, *, visible: Visibility
    ) -> Listed[Sequence[Batch]]:
        """Return a page of batches, newest first.

        Raises:
            DatasetNotFound: the query names a dataset that does not exist.
            FieldInvalid: the page token is malformed, or of another query.
        """
        return await self._store.read(lambda tx: _list_batches(tx, query), visible=visible)

    async def list_transitions(
        self,
        query: TransitionQuery,
        render: Callable[[Iterable[EncodedTransition]], T],
        *,
        visible: Visibility,
    ) -> Listed[T]:
        """Return a page of the history of a batch or document, oldest first.

        It is rendered as it is read, off the event loop: otherwise thousands of small objects
        would be collected, and handed from one thread to another.

        Raises:
            BatchNotFound, DocumentNotFound: there is no such batch or document.
            FieldInvalid: the page token is malformed, or of another query.
            HistoryChanged: it is of another history.
        """
        return await self._store.read(
            lambda tx: _list_transitions(tx, query, render), visible=visible
        )

    async def get_batch(
        self, name: BatchName, render: Callable[[Batch], bytes], *, visible: Visibility
    ) -> bytes:
        """Return a batch, rendered.

        Raises:
            BatchNotFound: there is no such batch.
        """
        return await self._recent.read(
            name, lambda tx: render(get_batch(tx, *name)), visible=visible
        )

    async def get_document(
        self,
        name: tuple[str, str, str],
        render: Callable[[EncodedDocument], bytes],
        *,
        visible: Visibility,
    ) -> bytes:
        """Return a document, rendered.

        Raises:
            BatchNotFound, DocumentNotFound: there is no such batch or document.
        """

        def get(tx: ReadTransaction) -> bytes:
            batch = get_batch(tx, *name[:2])
            return render(get_encoded_document(tx, batch, name[2]))

        return await self._recent.read(name, get, visible=visible)

    async def list_documents(
        self,
        query: DocumentQuery,
        render: Callable[[Iterable[EncodedDocument]], bytes],
        *,
        visible: Visibility,
    ) -> DocumentPage[bytes]:
        """Return a page of a batch's documents, rendered as it is read.

        Raises:
            BatchNotFound: there is no such batch.
            FieldInvalid: the page token is malformed, or of another query.
            HistoryChanged: it is of another history.
        """
        # A filter may have to pass over many rows.
        is_filtered = bool(query.states or query.stages)
        return await self._recent.read(
            query,
            lambda tx: _list_documents(tx, query, render),
            visible=visible,
            is_small=lambda page: len(page.documents) <= _SMALL and not is_filtered,
        )


def _list_datasets(tx: ReadTransaction, query: DatasetQuery) -> Listed[Sequence[Dataset]]:
    query_key = (tx.get_page_secret(), "datasets", sorted(query.dataset_ids or ()))
    after = PageToken.decode(query.page.token, *query_key).after if query.page.token else ""
    rows = tx.iterate_datasets(query.dataset_ids, after=after)
    datasets, following = take_page(rows, dataset_size_bound, limit=query.page.size)
    further = PageToken(after=datasets[-1].dataset_id).encode(*query_key) if following else ""
    return Listed(items=datasets, next_page_token=further)


def _list_batches(tx: ReadTransaction, query: BatchQuery) -> Listed[Sequence[Batch]]:
    if query.dataset_id:
        get_dataset(tx, query.dataset_id)
    query_key = (tx.get_page_secret(), "batches", query.dataset_id, sorted(query.states))
    before = int(PageToken.decode(query.page.token, *query_key).after) if query.page.token else None
    rows = tx.iterate_batches(query.dataset_id or None, states=query.states, before_key=before)
    batches, following = take_page(rows, batch_size_bound, limit=query.page.size)
    # Of fixed length: otherwise the length would reveal the size of the key.
    further = PageToken(after=f"{batches[-1].key:018}").encode(*query_key) if following else ""
    return Listed(items=batches, next_page_token=further)


def _list_transitions(
    tx: ReadTransaction,
    query: TransitionQuery,
    render: Callable[[Iterable[EncodedTransition]], T],
) -> Listed[T]:
    batch = get_batch(tx, query.dataset_id, query.batch_id)
    document = get_encoded_document(tx, batch, query.document_id) if query.document_id else None
    # With the key: a batch that was created again under its old id has another history.
    query_key = (tx.get_page_secret(), "transitions", batch.key, query.document_id)
    after = 0
    if query.page.token:
        token = PageToken.decode(query.page.token, *query_key)
        if token.resume_token:  # that of an earlier release has none
            _check_page(tx, batch, token)
        after = int(token.after)
    rows = tx.iterate_encoded_transitions(batch, after_revision=after, document=document)
    page = PageItems(rows, transition_size, limit=query.page.size)
    items, further = render(page), ""
    if page.last and page.following:
        reached = _token_at(batch, page.last.revision, page.last.write_id)
        following = PageToken(after=str(page.last.revision), resume_token=reached.encode())
        further = following.encode(*query_key)
    return Listed(items=items, next_page_token=further)


def _list_documents(
    tx: ReadTransaction, query: DocumentQuery, render: Callable[[Iterable[EncodedDocument]], T]
) -> DocumentPage[T]:
    batch = get_batch(tx, query.dataset_id, query.batch_id)
    if query.page.token:
        token = PageToken.decode(query.page.token, *_documents_key(tx, batch, query))
        start = _check_page(tx, batch, token)
    else:
        start = _token_now(tx, batch)
        token = PageToken(after="-1", resume_token=start.encode())
    rows = tx.iterate_encoded_documents(
        batch, after_position=int(token.after), states=query.states, stages=query.stages
    )
    page = PageItems(rows, document_size, limit=query.page.size)
    documents, further = render(page), ""
    if page.last and page.following:
        following = PageToken(after=str(page.last[0]), resume_token=token.resume_token)
        further = following.encode(*_documents_key(tx, batch, query))
    return DocumentPage(
        documents=documents,
        next_page_token=further,
        revision=start.revision,
        resume_token=token.resume_token,
    )


def _documents_key(tx: ReadTransaction, batch: Batch, query: DocumentQuery) -> tuple[Any, ...]:
    """Return the secret and the query of a page token."""
    filters = sorted(query.states), sorted(query.stages)
    return (tx.get_page_secret(), "documents", batch.key, *filters)


def _check_page(tx: ReadTransaction, batch: Batch, page: PageToken) -> ResumeToken:
    """Return the position in the history that a page token names; it is of this history."""
    position = ResumeToken.decode(
        page.resume_token, dataset_id=batch.dataset_id, batch_id=batch.batch_id
    )
    check_history(tx, batch, position, holder="page token")
    return position


def _token_now(tx: ReadTransaction, batch: Batch) -> ResumeToken:
    now = _token_at(batch, batch.revision, get_write_id(tx, batch))
    return replace(now, progress_seq=batch.progress_seq, server_epoch=batch.server_epoch)


def _token_at(batch: Batch, revision: int, write_id: int) -> ResumeToken:
    """Return the token of a transition, without counters."""
    return ResumeToken(
        dataset_id=batch.dataset_id,
        batch_id=batch.batch_id,
        revision=revision,
        write_id=write_id,
        progress_seq=0,
        server_epoch=0,
    )

"""Reads that are repeated are answered at once, and never with something old."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from stagecast.errors import BatchNotFound, DocumentNotFound, StoreBusy
from stagecast.model import ALL, DocumentQuery, Page, Stage, Visibility
from stagecast.service import recent_reads
from stagecast.service.controls import Controls
from stagecast.service.queries import Queries
from stagecast.store.sqlite import SqliteStore
from stagecast.v1 import status_service_pb2 as s
from stagecast.wire import encode_batch, encode_document, encode_documents
from tests.builders import BATCH_ID, DATASET_ID, ENCODER, create, move, report_of, started
from tests.clock import Clock
from tests.conditions import until
from tests.store.counting import CountingStore

NAME = (DATASET_ID, BATCH_ID)
PARSING = report_of(stage=Stage.PARSING)


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[CountingStore]:
    store = CountingStore(
        tmp_path / "s.db", clock=clock, on_commit=lambda _: None, on_foreign_commit=lambda: None
    )
    yield store
    await store.close()


@pytest.fixture
async def other(store: CountingStore, tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    """The same file, as another process has it."""
    other = SqliteStore(
        tmp_path / "s.db",
        clock=clock,
        encoder=ENCODER,
        on_commit=lambda _: None,
        on_foreign_commit=lambda: None,
    )
    yield other
    await other.close()


async def list_ids(queries: Queries, *, states: frozenset[object] = frozenset()) -> list[str]:
    query = DocumentQuery(
        dataset_id=DATASET_ID,
        batch_id=BATCH_ID,
        states=states,  # type: ignore[arg-type]  # of any kind, as long as there are some
        stages=frozenset(),
        page=Page(size=1_000, token=""),
    )
    page = await queries.list_documents(query, partial(encode_documents, NAME), visible=ALL)
    answer = s.ListDocumentsResponse.FromString(page.documents)
    return [f"{one.document_id} {one.revision}" for one in answer.documents]


async def get_document(queries: Queries) -> bytes:
    encode = partial(encode_document, NAME)
    return await queries.get_document((*NAME, "doc-1"), encode, visible=ALL)


@pytest.mark.parametrize("count", [2, 100])
async def test_repeated_read_needs_no_thread(store: CountingStore, count: int) -> None:
    await create(store, documents=count)
    queries = Queries(store)
    first = await queries.get_batch(NAME, encode_batch, visible=ALL)
    documents = await list_ids(queries)
    document = await get_document(queries)
    store.reads = 0
    store.open.clear()  # threads answer nothing any more
    assert await queries.get_batch(NAME, encode_batch, visible=ALL) is first
    assert await list_ids(queries) == documents
    assert await get_document(queries) is document
    assert store.reads == 0


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_read_after_a_commit_of_any_process_is_current(
    store: CountingStore, other: SqliteStore, elsewhere: bool
) -> None:
    batch = await create(store, documents=2)
    queries = Queries(store)
    await queries.get_batch(NAME, encode_batch, visible=ALL)
    await list_ids(queries)
    writer = other if elsewhere else store
    store.open.clear()  # threads answer nothing: what was just written is in memory
    for change in (started, PARSING):
        batch = await move(writer, batch, (1, change))
        assert await queries.get_batch(NAME, encode_batch, visible=ALL) == encode_batch(batch)
        assert await list_ids(queries) == ["doc-0 2", f"doc-1 {batch.revision}"]


async def test_deleted_batch_is_not_found(store: CountingStore, other: SqliteStore) -> None:
    await create(store, documents=2)
    queries = Queries(store)
    await queries.get_batch(NAME, encode_batch, visible=ALL)
    await get_document(queries)
    await Controls(other).delete_batch(*NAME, visible=ALL)
    for _ in range(2):
        with pytest.raises(BatchNotFound):
            await queries.get_batch(NAME, encode_batch, visible=ALL)
    await create(other, documents=1)
    with pytest.raises(DocumentNotFound):
        await get_document(queries)


async def test_result_is_for_the_same_visibility_only(store: CountingStore) -> None:
    await create(store)
    queries = Queries(store)
    await queries.get_batch(NAME, encode_batch, visible=ALL)
    with pytest.raises(BatchNotFound):
        await queries.get_batch(NAME, encode_batch, visible=Visibility(frozenset({"another"})))


@pytest.mark.parametrize(("documents", "states"), [(400, ()), (1, (1,))])
async def test_large_or_filtered_list_is_read_on_a_thread(
    store: CountingStore, documents: int, states: tuple[int, ...]
) -> None:
    await create(store, documents=documents)
    queries = Queries(store)
    await list_ids(queries, states=frozenset(states))
    store.open.clear()
    again = asyncio.create_task(list_ids(queries, states=frozenset(states)))
    await until(lambda: not store.idle.is_set())
    store.open.set()
    await again


async def test_busy_store_is_read_on_a_thread(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await create(store, documents=1)
    queries = Queries(store)
    await queries.get_batch(NAME, encode_batch, visible=ALL)
    batch = await move(store, batch, (0, started))

    def refuse(*_: object, **__: object) -> None:
        raise StoreBusy("recovering", retry_after_s=1)

    monkeypatch.setattr(store, "read_now", refuse)
    assert await queries.get_batch(NAME, encode_batch, visible=ALL) == encode_batch(batch)


async def test_number_of_results_is_limited(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_reads, "_MAX_RESULTS", 2)
    queries = Queries(store)
    for batch_id in ("a", "b", "c"):
        await create(store, batch_id)
    for batch_id in ("a", "b", "a", "c"):
        await queries.get_batch((DATASET_ID, batch_id), encode_batch, visible=ALL)
    store.reads = 0
    await queries.get_batch((DATASET_ID, "a"), encode_batch, visible=ALL)
    assert store.reads == 0
    await queries.get_batch((DATASET_ID, "b"), encode_batch, visible=ALL)
    assert store.reads == 1

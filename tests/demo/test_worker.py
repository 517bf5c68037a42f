"""The worker reports its work, and its reports survive a server that is unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from sqlite_utils import Database

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.demo.index import Index
from stagecast.demo.sources import find_sources
from stagecast.demo.worker import Source, Worker, submit, work
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.conditions import with_more_time
from tests.process import ServerProcess, free_address
from tests.validator import WatchRecord


@pytest.fixture
async def index(tmp_path: Path) -> AsyncIterator[Index]:
    async with Index(tmp_path / "index.db") as index:
        yield index


def sources_of(**files: Path) -> list[Source]:
    return [Source(document_id=name, display_name=name, path=path) for name, path in files.items()]


async def ingest(
    client: Stubs, dataset_id: str, sources: list[Source], index: Index
) -> WatchRecord:
    """Submit and ingest, and return a watch from the first revision."""
    batch = await submit(client, dataset_id, sources)
    record = WatchRecord()
    request = s.WatchBatchRequest(dataset_id=dataset_id, batch_id=batch.batch_id)
    async with asyncio.timeout(600), asyncio.TaskGroup() as group:
        group.create_task(watch(client, request, record))
        group.create_task(work(client, batch, sources, index))
    return record


async def watch(client: Stubs, request: s.WatchBatchRequest, record: WatchRecord) -> None:
    async for message in client.watch(request):
        record.receive(message)


async def test_samples_go_through_all_stages(client: Stubs, dataset_id: str, index: Index) -> None:
    sources = find_sources([])
    record = await ingest(client, dataset_id, sources, index)
    assert record.batch is not None
    assert record.batch.state == r.BATCH_STATE_SUCCEEDED
    with Database(index.path) as db:
        for document in record.documents.values():
            chunks = db.table("chunks").count_where("document_id = ?", [document.document_id])
            assert document.progress.total_segments == chunks > 2
            assert document.progress.completed_segments == chunks
    stages = [
        transition.document.stage
        for transition in record.transitions.values()
        if transition.document.document_id == sources[0].document_id
        and transition.kind != r.TRANSITION_KIND_STARTED
    ]
    assert stages == [2, 3, 4, 5, 6]
    assert all(t.event_time.seconds for t in record.transitions.values() if t.document.stage > 1)


async def test_a_document_that_cannot_be_ingested_fails_with_its_reason(
    client: Stubs, dataset_id: str, index: Index, tmp_path: Path
) -> None:
    undecodable, empty, good = (tmp_path / name for name in ("undecodable", "empty", "good"))
    undecodable.write_bytes(b"fine\nnot fine: \xff")
    empty.write_text(" \n\x00\n")
    good.write_text("A text.")
    sources = sources_of(
        undecodable=undecodable,
        empty=empty,
        missing=tmp_path / "missing",
        directory=tmp_path,
        good=good,
    )
    record = await ingest(client, dataset_id, sources, index)
    reported = {
        name: (document.error.reason, document.stage)
        for name, document in record.documents.items()
        if document.state == r.DOCUMENT_STATE_FAILED
    }
    assert reported == {
        "undecodable": ("DECODE_ERROR", r.STAGE_PARSING),
        "empty": ("NO_TEXT", r.STAGE_CLEANING),
        "missing": ("READ_ERROR", r.STAGE_PARSING),
        "directory": ("READ_ERROR", r.STAGE_PARSING),
    }
    assert "offset 15, line 2" in record.documents["undecodable"].error.message
    assert record.documents["good"].state == r.DOCUMENT_STATE_SUCCEEDED


async def test_failing_index_fails_the_document(
    client: Stubs, dataset_id: str, index: Index, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("A text.")
    with Database(index.path) as db:
        db.table("chunks_fts").drop()
    record = await ingest(client, dataset_id, sources_of(text=text), index)
    assert record.documents["text"].error.reason == "INDEX_ERROR"
    assert record.documents["text"].stage == r.STAGE_INDEXING


async def test_worker_drops_a_document_taken_over_by_another(
    client: Stubs, dataset_id: str, index: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [tmp_path / "disputed", tmp_path / "next"]
    for path in names:
        path.write_text("A text.")
    sources = sources_of(disputed=names[0], next=names[1])
    batch = await submit(client, dataset_id, sources)
    slow_index = SlowIndex(index)
    first = Worker(client, batch, slow_index, name="first")
    second = Worker(client, batch, index, name="second")
    async with asyncio.timeout(600), asyncio.TaskGroup() as group:
        group.create_task(first.run(iter(sources)))
        await slow_index.reached.wait()
        await second.ingest(sources[0])
        slow_index.released.set()
    assert "dropped 'disputed'" in caplog.text
    record = WatchRecord()
    await watch(client, s.WatchBatchRequest(dataset_id=dataset_id, batch_id=batch.batch_id), record)
    workers = {name: (d.worker, d.attempt, d.state) for name, d in record.documents.items()}
    assert workers == {
        "disputed": ("second", 2, r.DOCUMENT_STATE_SUCCEEDED),
        "next": ("first", 1, r.DOCUMENT_STATE_SUCCEEDED),
    }


@pytest.mark.slow
async def test_a_slow_worker_keeps_its_document_from_stalling(
    real_server: Stubs, dataset_id: str, index: Index, tmp_path: Path
) -> None:
    """Meanwhile another document, started and then abandoned, stalls."""
    text = tmp_path / "slow"
    text.write_text("A text.")

    async def work_slowly(timer_s: float) -> None:
        created = await real_server.reports.CreateBatch(
            pb.CreateBatchRequest(
                dataset_id=dataset_id,
                documents=[pb.NewDocument(document_id=name) for name in ("slow", "abandoned")],
                stall_after=Duration(seconds=round(timer_s)),
            )
        )
        source = sources_of(slow=text)[0]
        await _check_only_the_abandoned_one_stalls(real_server, created.batch, source, index)

    await with_more_time(work_slowly, 1)


async def _check_only_the_abandoned_one_stalls(
    client: Stubs, batch: r.Batch, source: Source, index: Index
) -> None:
    names: dict[str, Any] = {"dataset_id": batch.dataset_id, "batch_id": batch.batch_id}
    slow_index = SlowIndex(index)
    async with asyncio.timeout(600), asyncio.TaskGroup() as group:
        group.create_task(Worker(client, batch, slow_index, name="w1").ingest(source))
        await slow_index.reached.wait()
        start = pb.StartAttemptRequest(**names, document_id="abandoned", worker="w2")
        await client.reports.StartAttempt(start)
        async for message in client.status.WatchBatch(s.WatchBatchRequest(**names)):
            if any(t.kind == r.TRANSITION_KIND_STALLED for t in message.transitions):
                break
        slow_index.released.set()
    history = await client.status.ListTransitions(
        s.ListTransitionsRequest(**names, document_id="slow")
    )
    kinds = {transition.kind for transition in history.transitions}
    assert r.TRANSITION_KIND_SUCCEEDED in kinds
    assert r.TRANSITION_KIND_STALLED not in kinds


@pytest.fixture
async def real_server(config: Config) -> AsyncIterator[Stubs]:
    """A client of a server with a real clock."""
    async with App(config) as server, Stubs(server.grpc_address) as client:
        yield client


class SlowIndex:
    """An index that adds nothing until it is released."""

    def __init__(self, index: Index) -> None:
        self.reached = asyncio.Event()
        self.released = asyncio.Event()
        self._index = index

    async def add(self, document_id: str, first: int, chunks: Sequence[str]) -> None:
        self.reached.set()
        await self.released.wait()
        await self._index.add(document_id, first, chunks)


async def test_many_documents_are_submitted_in_several_calls(
    client: Stubs, dataset_id: str, tmp_path: Path
) -> None:
    sources = sources_of(**{f"doc-{number}": tmp_path for number in range(2_001)})
    batch = await submit(client, dataset_id, sources)
    assert batch.sealed
    assert batch.counts.total == 2_001


@pytest.mark.slow
async def test_reports_survive_a_server_that_is_killed(
    dataset_id: str, index: Index, tmp_path: Path
) -> None:
    address, db = free_address(), tmp_path / "stagecast.db"
    server = await ServerProcess.start(db, grpc=address)
    sources = find_sources([])
    record = WatchRecord()
    try:
        async with Stubs(address) as client, asyncio.timeout(600), asyncio.TaskGroup() as group:
            batch = await submit(client, dataset_id, sources)
            request = s.WatchBatchRequest(dataset_id=dataset_id, batch_id=batch.batch_id)
            group.create_task(watch(client, request, record))
            slow = work(client, batch, sources, index, delay_s=0.01)
            work_task = group.create_task(slow)
            await until_indexing(client, request)
            await server.kill()
            assert not work_task.done()
            server = await ServerProcess.start(db, grpc=address)
    finally:
        if server.process.returncode is None:
            await server.kill()
    assert record.batch is not None
    assert record.batch.state == r.BATCH_STATE_SUCCEEDED
    assert {document.attempt for document in record.documents.values()} == {1}


async def until_indexing(client: Stubs, request: s.WatchBatchRequest) -> None:
    async for message in client.status.WatchBatch(request):
        if any(t.document.stage == r.STAGE_INDEXING for t in message.transitions):
            return

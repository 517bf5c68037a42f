"""Several servers on one file: each shows the reports of all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stagecast.client import Stubs
from stagecast.v1 import control_service_pb2 as cs
from stagecast.v1 import report_service_pb2 as rs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.grpc_calls import read
from tests.process import running
from tests.validator import WatchRecord
from tests.watches.pipeline import Pipeline


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Stubs, Stubs]]:
    """Clients of two servers on one file."""
    db = tmp_path / "stagecast.db"
    async with (
        running(db) as one,
        running(db) as other,
        Stubs(one.grpc) as here,
        Stubs(other.grpc) as there,
    ):
        yield here, there


@pytest.mark.slow
async def test_report_to_one_server_is_pushed_by_the_other(
    pair: tuple[Stubs, Stubs], dataset_id: str
) -> None:
    here, there = pair
    reported = Pipeline(here, dataset_id)
    await reported.create(3)
    watched = Pipeline(there, dataset_id, reported.batch_id)
    record = WatchRecord()
    async with watched.stream() as stream:
        record.receive(await stream.read())
        for stage in (r.STAGE_PARSING, r.STAGE_CLEANING, r.STAGE_INDEXING):
            answer = await reported.stage(stage)
            for message in await stream.read_to_revision(answer.revision):
                record.receive(message)
        await reported.count("doc-0", 3, 9)
        record.receive(message := await stream.read())
        assert message.progress[0].progress.completed_segments == 3
    assert record.documents == await reported.documents()


@pytest.mark.slow
async def test_token_of_one_server_resumes_at_the_other(
    pair: tuple[Stubs, Stubs], dataset_id: str
) -> None:
    """Counters come from both servers; the token has the epoch of the server that counted."""
    sides = [Pipeline(client, dataset_id) for client in pair]
    await sides[0].create(2)
    sides[1].batch_id, sides[1].document_ids = sides[0].batch_id, sides[0].document_ids
    record = WatchRecord()
    for step in range(6):
        side, other = sides[step % 2], sides[1 - step % 2]
        async with side.stream(resume_token=record.resume_token) as stream:
            if step == 0:
                record.receive(await stream.read())
            else:
                await other.count("doc-0", step, 9)
                while record.documents["doc-0"].progress.completed_segments < step:
                    record.receive(await stream.read())
        record.hang_up()
        await side.report(rs.DocumentReport(document_id="doc-1", stage=min(step + 1, 5)))  # type: ignore[arg-type]  # stages by number
    async with sides[0].stream(resume_token=record.resume_token) as stream:
        while record.documents["doc-1"].stage < r.STAGE_INDEXING:
            record.receive(await stream.read())
    assert record.snapshots == 1


@pytest.mark.slow
async def test_watch_after_a_retry_at_the_other_server_does_not_end(
    pair: tuple[Stubs, Stubs], dataset_id: str
) -> None:
    """The server knows the end of the batch, and may not know yet that it is open again."""
    here, there = (Pipeline(client, dataset_id) for client in pair)
    await here.create(1)
    there.batch_id = here.batch_id
    async with here.stream(follow=True) as following:
        token = (await following.read()).resume_token
        await here.stage(r.STAGE_COMPLETED)
        async with here.stream(resume_token=token) as ended:
            messages = await ended.read_to_revision(4)
            token = messages[-1].resume_token
        for _ in range(20):
            retried = cs.RetryRequest(
                dataset_id=dataset_id, batch_id=here.batch_id, document_id="doc-0"
            )
            await there.client.controls.Retry(retried)
            async with here.stream(resume_token=token) as stream:
                message = await stream.read_answer()
                assert message.transitions, "it continued instead of ending"
            await there.report(rs.DocumentReport(document_id="doc-0", stage=r.STAGE_COMPLETED))
            async with there.stream(resume_token=token) as stream:
                token = (await stream.read_to_revision(message.revision + 1))[-1].resume_token


@pytest.mark.slow
async def test_wait_and_dataset_watch_follow_the_other_server(
    pair: tuple[Stubs, Stubs], dataset_id: str
) -> None:
    here, there = pair
    pipeline = Pipeline(here, dataset_id)
    await pipeline.create(1)
    async with asyncio.timeout(600):
        watch = there.status.WatchDatasets(ss.WatchDatasetsRequest())
        assert (await read(watch)).datasets[0].state == r.DATASET_STATE_PENDING
        waited = asyncio.ensure_future(
            there.status.WaitBatch(
                ss.WaitBatchRequest(dataset_id=dataset_id, batch_id=pipeline.batch_id)
            )
        )
        await pipeline.stage(r.STAGE_COMPLETED)
        assert (await waited).done
        state = r.DATASET_STATE_PENDING
        while state != r.DATASET_STATE_SUCCEEDED:
            state = (await read(watch)).datasets[0].state
        await here.controls.DeleteDataset(cs.DeleteDatasetRequest(dataset_id=dataset_id))
        assert (await read(watch)).removed_dataset_ids == [dataset_id]
        watch.cancel()


async def test_batch_deleted_at_one_server_ends_its_watch_at_the_other(
    pair: tuple[Stubs, Stubs], dataset_id: str
) -> None:
    here, there = (Pipeline(client, dataset_id) for client in pair)
    await here.create(1)
    there.batch_id = here.batch_id
    async with there.stream() as stream:
        await stream.read()
        await here.client.controls.DeleteBatch(
            cs.DeleteBatchRequest(dataset_id=dataset_id, batch_id=here.batch_id)
        )
        assert "was deleted" in str((await stream.error()).details())


@pytest.mark.slow
async def test_no_server_starves_while_the_others_write_at_full_speed(tmp_path: Path) -> None:
    """Without fairness between writers, one of three had 1 % of the commits."""
    db = tmp_path / "stagecast.db"
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(running(db)) for _ in range(3)]
        clients = [await stack.enter_async_context(Stubs(server.grpc)) for server in servers]
        counts = [0, 0, 0]

        async def add_documents(number: int) -> None:
            pipeline = Pipeline(clients[number], f"{number:08}-0000-4000-8000-000000000000")
            await pipeline.create(0, more_documents_follow=True)
            request = rs.AddDocumentsRequest(
                dataset_id=pipeline.dataset_id,
                batch_id=pipeline.batch_id,
                documents=[rs.NewDocument()] * 20,
            )
            while sum(counts) < 1_200:
                await pipeline.client.reports.AddDocuments(request)
                counts[number] += 1

        async with asyncio.timeout(600), asyncio.TaskGroup() as group:
            for number in range(3):
                for _ in range(16):
                    group.create_task(add_documents(number))
    assert min(counts) > sum(counts) / 10, counts

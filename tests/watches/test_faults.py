"""Watches under load with injected faults; one validator checks every record."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from stagecast.client import Stubs
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from tests.process import ServerProcess, free_address, running
from tests.validator import WatchRecord
from tests.watches.pipeline import Hangups, Pipeline, check_all, watch_with_hangups


@pytest.mark.slow
async def test_watches_opened_while_reports_run_receive_every_transition(
    pipeline: Pipeline,
) -> None:
    rng = random.Random(1)
    await pipeline.create(200, more_documents_follow=True)
    first = asyncio.create_task(pipeline.record())
    reporting = asyncio.create_task(pipeline.run(rng))
    late = []
    while not reporting.done():
        late.append(asyncio.create_task(pipeline.record()))
        await pipeline.documents()  # some time passes
    await reporting
    records = await asyncio.gather(first, *late)
    check_all(records, pipeline, await pipeline.documents())
    assert len(pipeline.acknowledged) > 500


@pytest.mark.slow
async def test_random_hangups_lose_and_repeat_nothing(pipeline: Pipeline) -> None:
    rng = random.Random(2)
    await pipeline.create(300, more_documents_follow=True)
    records = [WatchRecord() for _ in range(10)]
    async with asyncio.timeout(600), asyncio.TaskGroup() as group:
        for record in records:
            ownrng = random.Random(rng.random())
            group.create_task(watch_with_hangups(pipeline, record, Hangups(20, ownrng)))
        group.create_task(pipeline.run(rng))
    check_all(records, pipeline, await pipeline.documents())
    assert sum(record.hangups for record in records) >= 50


@pytest.mark.slow
async def test_server_killed_under_load_loses_nothing_acknowledged(
    tmp_path: Path, dataset_id: str
) -> None:
    rng = random.Random(3)
    db, grpc, http = tmp_path / "stagecast.db", free_address(), free_address()
    server = await ServerProcess.start(db, grpc=grpc, http=http)
    try:
        async with Stubs(grpc) as client:
            pipeline = Pipeline(client, dataset_id)
            await pipeline.create(300, more_documents_follow=True)
            records = [WatchRecord() for _ in range(5)]
            async with asyncio.timeout(600), asyncio.TaskGroup() as group:
                for record in records:
                    ownrng = random.Random(rng.random())
                    group.create_task(watch_with_hangups(pipeline, record, Hangups(3, ownrng)))
                group.create_task(pipeline.run(rng))
                for reports in (100, 400, 700):
                    await pipeline.until_acknowledged(reports)
                    await server.kill()
                    server = await ServerProcess.start(db, grpc=grpc, http=http)
            check_all(records, pipeline, await pipeline.documents())
            assert all(record.hangups >= 3 for record in records)
        assert await server.stop() == 0
    finally:
        if server.process.returncode is None:
            await server.kill()


@pytest.mark.slow
async def test_client_watch_continues_with_the_next_transition_after_a_kill(
    tmp_path: Path, dataset_id: str
) -> None:
    db, grpc, http = tmp_path / "stagecast.db", free_address(), free_address()
    record = WatchRecord()
    async with Stubs(grpc) as client, running(db, grpc=grpc, http=http) as first:
        pipeline = Pipeline(client, dataset_id)
        await pipeline.create(2)
        request = s.WatchBatchRequest(dataset_id=dataset_id, batch_id=pipeline.batch_id)
        watch = client.watch(request)
        record.receive(await anext(watch))
        await pipeline.stage(r.STAGE_PARSING)
        await first.kill()
        async with running(db, grpc=grpc, http=http), asyncio.timeout(600):
            await pipeline.stage(r.STAGE_COMPLETED)
            async for message in watch:
                record.receive(message)
    assert record.snapshots == 1
    assert sorted(record.transitions) == [5, 6, 7, 8]

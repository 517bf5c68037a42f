"""Watches of both clients through kills, drains and cuts, checked by the validator."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import stagecast
from stagecast.client import Stubs
from stagecast.v1 import resources_pb2 as r
from tests.client.as_messages import EventRecord
from tests.client.faces import NAMES, Events, Face
from tests.conditions import until
from tests.process import ServerProcess, free_address, running
from tests.proxy import Proxy
from tests.watches.pipeline import Pipeline, check_all, retrying

both = pytest.mark.parametrize("name", NAMES)


async def record(face: Face, pipeline: Pipeline, into: EventRecord) -> None:
    """Watch a batch to its end."""
    events = Events(face, pipeline.dataset_id, pipeline.batch_id)
    async for event in events:
        into.take(event, events.watch)
    assert events.watch.batch.state.terminal


async def check_through(
    db: Path, dataset_id: str, fault: Callable[[ServerProcess], Awaitable[object]], *, faults: int
) -> None:
    """Watch with both clients while a server is stopped and started again; check what came."""
    grpc = free_address()
    server = await ServerProcess.start(db, grpc=grpc)
    faces, records = [Face(name, grpc) for name in NAMES], [EventRecord() for _ in NAMES]
    try:
        async with Stubs(grpc) as stubs, asyncio.timeout(600):
            pipeline = Pipeline(stubs, dataset_id)
            await pipeline.create(40 * faults, more_documents_follow=True)
            async with asyncio.TaskGroup() as group:
                for face, into in zip(faces, records, strict=True):
                    group.create_task(record(face, pipeline, into))
                await until(lambda: all(into.snapshots for into in records))
                group.create_task(pipeline.run(random.Random(4)))
                for number in range(1, faults + 1):
                    await pipeline.until_acknowledged(100 * number)
                    await fault(server)
                    server = await ServerProcess.start(db, grpc=grpc)
            check_all(records, pipeline, await pipeline.documents())
        for face in faces:
            await face.close()
        assert await server.stop() == 0
    finally:
        if server.process.returncode is None:
            await server.kill()


@pytest.mark.slow
async def test_nothing_is_missed_or_repeated_through_kills_of_the_server(
    tmp_path: Path, dataset_id: str
) -> None:
    await check_through(tmp_path / "s.db", dataset_id, ServerProcess.kill, faults=20)


@pytest.mark.slow
async def test_nothing_is_missed_or_repeated_through_drains(
    tmp_path: Path, dataset_id: str
) -> None:
    await check_through(tmp_path / "s.db", dataset_id, ServerProcess.stop, faults=3)


@pytest.mark.slow
@both
async def test_expiring_watches_and_cut_connections_go_unnoticed(
    name: str, tmp_path: Path, dataset_id: str
) -> None:
    async with (
        running(tmp_path / "s.db", "--watch-life", "0.2") as server,
        Proxy(server.grpc).running() as proxy,
        Stubs(server.grpc) as stubs,
        asyncio.timeout(600),
    ):
        pipeline, into = Pipeline(stubs, dataset_id), EventRecord()
        await pipeline.create(200, more_documents_follow=True)
        face = Face(name, proxy.address)
        recording = asyncio.create_task(record(face, pipeline, into))
        await until(lambda: into.snapshots == 1)
        running_pipeline = asyncio.create_task(pipeline.run(random.Random(5)))
        for reports in (50, 150, 250, 350):
            await pipeline.until_acknowledged(reports)
            proxy.cut()
        await running_pipeline
        await recording
        await face.close()
        check_all([into], pipeline, await pipeline.documents())


@pytest.mark.slow
@both
async def test_calls_and_waits_survive_a_restart(
    name: str, tmp_path: Path, dataset_id: str
) -> None:
    db, grpc = tmp_path / "s.db", free_address()
    face = Face(name, grpc)
    async with asyncio.timeout(240):
        async with running(db, grpc=grpc) as first:
            await face.call("create_batch", dataset_id, ["a"], batch_id="b")
            waiting = asyncio.create_task(face.call("wait", dataset_id, "b"))
            await first.kill()
            getting = asyncio.create_task(face.call("get_batch", dataset_id, "b"))
        async with running(db, grpc=grpc) as second:
            assert (await getting).state is stagecast.BatchState.PENDING
            report = stagecast.DocumentReport(document_id="a", stage=stagecast.Stage.COMPLETED)
            await face.call("report", dataset_id, "b", [report])
            assert (await waiting).state is stagecast.BatchState.SUCCEEDED
            await face.close()
            assert await second.stop() == 0


@pytest.mark.slow
@both
async def test_server_that_stays_away_is_unavailable_after_the_timeout(
    name: str, tmp_path: Path, dataset_id: str
) -> None:
    async with running(tmp_path / "s.db") as server:
        face = Face(name, server.grpc, timeout=0.5)
        await face.call("create_batch", dataset_id, [], batch_id="b")
        await server.kill()
        with pytest.raises(stagecast.Unavailable, match=r"cannot reach|connection"):
            await face.call("get_batch", dataset_id, "b")
        await face.close()


@pytest.mark.slow
@both
async def test_watched_datasets_survive_a_restart(
    name: str, tmp_path: Path, dataset_id: str
) -> None:
    db, grpc = tmp_path / "s.db", free_address()
    face = Face(name, grpc)
    async with asyncio.timeout(240), Stubs(grpc) as stubs:
        async with running(db, grpc=grpc) as first:
            pipeline = Pipeline(stubs, dataset_id)
            await pipeline.create(1)
            events = Events(face, method="watch_datasets")
            before = await anext(events)
            await first.kill()
        async with running(db, grpc=grpc):
            await retrying(lambda: pipeline.stage(r.STAGE_COMPLETED))
            after = await anext(events)
            assert (before.dataset_id, after.dataset_id) == (dataset_id, dataset_id)
            assert (before.counts.pending, after.counts.succeeded) == (1, 1)
            await events.close()
            await face.close()

"""Servers that are killed under `EventSource`s, which reconnect by themselves."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from stagecast.client import Stubs
from tests.event_source import EventSource
from tests.process import ServerProcess, free_address
from tests.rpc.http.test_events import path_of
from tests.validator import WatchRecord
from tests.watches.pipeline import Pipeline, check_all

_KILLS = 20
_SOURCES = 5


async def record(source: EventSource, received: WatchRecord) -> None:
    """Receive everything until the browser would stay away."""
    connections = 1
    async for event in source.events():
        if source.connections > connections:
            connections = source.connections
            received.hang_up()
        if event.kind == "message":
            received.receive(event.message())


@pytest.mark.slow
async def test_event_source_misses_nothing_through_twenty_kills(
    tmp_path: Path, dataset_id: str
) -> None:
    rng = random.Random(4)
    db, grpc, http = tmp_path / "stagecast.db", free_address(), free_address()
    server = await ServerProcess.start(db, grpc=grpc, http=http)
    try:
        async with Stubs(grpc) as client, asyncio.timeout(600):
            pipeline = Pipeline(client, dataset_id)
            await pipeline.create(300, more_documents_follow=True)
            sources = [EventSource(f"http://{http}{path_of(pipeline)}") for _ in range(_SOURCES)]
            records = [WatchRecord() for _ in sources]
            async with asyncio.TaskGroup() as group:
                for source, received in zip(sources, records, strict=True):
                    group.create_task(record(source, received))
                group.create_task(pipeline.run(rng))
                for kill in range(1, _KILLS + 1):
                    await pipeline.until_acknowledged(50 * kill)
                    await server.kill()
                    server = await ServerProcess.start(db, grpc=grpc, http=http)
            check_all(records, pipeline, await pipeline.documents())
            assert {source.closed_by for source in sources} == {204}
            assert sum(source.connections for source in sources) > _KILLS
        assert await server.stop() == 0
    finally:
        if server.process.returncode is None:
            await server.kill()

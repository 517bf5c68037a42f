"""A watch that starts while the disk hangs gets heartbeats, and continues with the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.v1 import status_service_pb2 as ss
from tests.clock import Clock
from tests.faults import OpenApp, hanging_reads
from tests.grpc_calls import read
from tests.watches.pipeline import Pipeline

HEARTBEAT = Duration(seconds=1)


@pytest.fixture
async def app(config: Config, clock: Clock) -> AsyncIterator[OpenApp]:
    """A server whose disk can be made to hang."""
    async with OpenApp(config, clock=clock) as app:
        yield app


@pytest.mark.slow
async def test_new_watch_of_a_batch_has_heartbeats_before_its_snapshot(
    app: OpenApp, dataset_id: str
) -> None:
    async with Stubs(app.grpc_address) as client, asyncio.timeout(60):
        pipeline = Pipeline(client, dataset_id)
        await pipeline.create(1)
        request = ss.WatchBatchRequest(
            dataset_id=dataset_id, batch_id=pipeline.batch_id, heartbeat_interval=HEARTBEAT
        )
        async with hanging_reads(app.store):
            watch = client.status.WatchBatch(request)
            await watch.initial_metadata()
            for _ in range(2):
                heartbeat = await read(watch)
                assert not heartbeat.resume_token
                assert not heartbeat.HasField("snapshot")
        while not (message := await read(watch)).resume_token:
            pass
        assert message.snapshot.complete
        watch.cancel()


async def test_watch_of_unknown_batch_fails_after_its_heartbeats(
    app: OpenApp, dataset_id: str
) -> None:
    async with Stubs(app.grpc_address) as client, asyncio.timeout(60):
        async with hanging_reads(app.store):
            watch = client.status.WatchBatch(
                ss.WatchBatchRequest(
                    dataset_id=dataset_id, batch_id="no", heartbeat_interval=HEARTBEAT
                )
            )
            await watch.initial_metadata()
        with pytest.raises(aio.AioRpcError) as caught:
            await _read_all(watch)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def _read_all(watch: aio.UnaryStreamCall[Any, Any]) -> None:
    async for _ in watch:
        pass


@pytest.mark.slow
async def test_new_watch_of_datasets_has_heartbeats_before_they_are_read(
    app: OpenApp,
) -> None:
    async with Stubs(app.grpc_address) as client, asyncio.timeout(60):
        async with hanging_reads(app.store):
            watch = client.status.WatchDatasets(
                ss.WatchDatasetsRequest(heartbeat_interval=HEARTBEAT)
            )
            await watch.initial_metadata()
            for _ in range(2):
                assert not (await read(watch)).complete
        while not (await read(watch)).complete:
            pass
        watch.cancel()

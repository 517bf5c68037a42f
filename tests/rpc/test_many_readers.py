"""Stopped and vanished readers: they cost one cursor each, and are disconnected."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import uuid
from pathlib import Path

import pytest
from grpc import aio

from stagecast.app import App
from stagecast.client import Stubs, endpoint
from stagecast.config import Config
from stagecast.rpc import server as rpc_server
from stagecast.v1 import resources_pb2 as r
from stagecast.v1.status_service_pb2_grpc import StatusServiceStub
from tests.clock import Clock
from tests.conditions import until, with_more_time
from tests.process import running
from tests.proxy import Proxy, Trouble
from tests.rpc.http2 import raw_connection
from tests.rpc.test_slow_readers import NO_READ_AHEAD
from tests.validator import WatchRecord
from tests.watches.pipeline import Pipeline

STOPPED = 500
DOCUMENTS = 2_000
MIB = 1 << 20
KEEPALIVE = "grpc.keepalive_time_ms"


@pytest.mark.slow
async def test_500_stopped_readers_delay_nobody_and_buffer_no_messages(
    tmp_path: Path, dataset_id: str
) -> None:
    async with (
        running(tmp_path / "stagecast.db") as server,
        Stubs(server.grpc) as client,
        aio.insecure_channel(server.grpc, options=NO_READ_AHEAD) as channel,
    ):
        pipeline = Pipeline(client, dataset_id)
        await pipeline.create(DOCUMENTS, more_documents_follow=True)
        lazy = StatusServiceStub(channel)
        stopped = [lazy.WatchBatch(pipeline.watch_request()) for _ in range(STOPPED)]
        for call in stopped:
            await call.read()  # only the first part of the snapshot
        before = server.memory()
        following = asyncio.create_task(pipeline.record())
        for stage in (r.STAGE_PARSING, r.STAGE_CLEANING, r.STAGE_INDEXING, r.STAGE_COMPLETED):
            for first in range(0, DOCUMENTS, 1_000):
                await pipeline.stage(stage, *pipeline.document_ids[first : first + 1_000])
        await pipeline.seal()
        record: WatchRecord = await following  # in time, to the end of the batch
        assert record.documents == await pipeline.documents()
        missed = 4 * DOCUMENTS * 100 * STOPPED  # a lower bound, in bytes
        assert server.memory() - before < 200 * MIB < missed
        for call in stopped:
            call.cancel()


@pytest.mark.slow
async def test_vanished_connection_is_closed_after_the_keepalive_timeout(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    async def vanish(timer_s: float) -> None:
        brief = dataclasses.replace(config, keepalive_s=1.0, keepalive_timeout_s=timer_s)
        async with App(brief, clock=clock) as app, Stubs(app.grpc_address) as near:
            pipeline = Pipeline(near, dataset_id)
            await pipeline.create(1, more_documents_follow=True)
            proxy = Proxy(app.grpc_address)
            async with proxy.running(), aio.insecure_channel(proxy.address) as channel:
                far = StatusServiceStub(channel)
                watches = [far.WatchBatch(pipeline.watch_request()) for _ in range(10)]
                for watch in watches:
                    await watch.read()
                assert app.open_watches == 10
                vanished = asyncio.create_task(proxy.trouble(Trouble.BLACK_HOLE, math.inf))
                await until(lambda: app.open_watches == 0)
                assert (await pipeline.stage(r.STAGE_PARSING)).revision
                assert not vanished.done()
                vanished.cancel()

    # A slow client looks like a vanished one.
    await with_more_time(vanish, 0.5)


async def test_client_with_frequent_pings_is_not_disconnected(
    config: Config, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default, grpc allows one ping in five minutes, and disconnects after three more."""
    interval = "grpc.http2.min_ping_interval_without_data_ms"
    assert dict(rpc_server._OPTIONS)[interval] < dict(endpoint._OPTIONS)[KEEPALIVE]
    brief = {**dict(rpc_server._OPTIONS), interval: 50}
    monkeypatch.setattr(rpc_server, "_OPTIONS", tuple(brief.items()))
    now = asyncio.get_running_loop().time
    async with (
        App(dataclasses.replace(config, request_s=600.0), clock=clock) as app,
        raw_connection(app.grpc_address) as connection,
        asyncio.timeout(60),
    ):
        connection.begin("/stagecast.v1.StatusService/WatchBatch", b"\0")
        for _ in range(6):
            next_s = now() + 0.06

            def passed(at: float = next_s) -> bool:
                return now() > at

            await connection.ping()
            await until(passed)


@pytest.mark.slow
async def test_cancelled_watches_leave_nothing_behind(server: App, client: Stubs) -> None:
    pipeline = Pipeline(client, str(uuid.uuid4()))
    await pipeline.create(1, more_documents_follow=True)
    tasks = len(asyncio.all_tasks())
    for _ in range(20):
        watches = [client.status.WatchBatch(pipeline.watch_request()) for _ in range(50)]
        await asyncio.gather(*(watch.read() for watch in watches[::2]))
        for watch in watches:
            watch.cancel()
    await until(lambda: server.open_watches == 0 and len(asyncio.all_tasks()) <= tasks)

"""SIGTERM under load: every call finishes or gets a reason, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import aio
from grpc_health.v1 import health_pb2
from sqlite_utils.utils import sqlite3

from stagecast.app import App
from stagecast.client import Stubs, details_of
from stagecast.config import Config
from stagecast.rpc import server as rpc_server
from stagecast.service import heartbeats
from stagecast.v1 import status_service_pb2 as s
from stagecast.v1.status_service_pb2_grpc import StatusServiceStub
from tests.background.node import open_node
from tests.clock import START_US, Clock
from tests.conditions import until
from tests.grpc_calls import HealthStub, read
from tests.process import free_address, running
from tests.rpc.calls import Calls, refused
from tests.rpc.test_slow_readers import NO_READ_AHEAD
from tests.validator import WatchRecord
from tests.watches.pipeline import (
    STAGES,
    Pipeline,
    check_all,
    retrying,
)


@pytest.mark.slow
async def test_sigterm_under_load_finishes_or_refuses_every_call_with_a_reason(
    tmp_path: Path, dataset_id: str
) -> None:
    db = tmp_path / "stagecast.db"
    async with running(db) as server, Stubs(server.grpc) as client:
        pipeline = Pipeline(client, dataset_id)
        await pipeline.create(30)
        async with asyncio.timeout(600), asyncio.TaskGroup() as group:
            reporting = [
                group.create_task(_report_until_refused(pipeline, document_id))
                for document_id in pipeline.document_ids
            ]
            watching = group.create_task(_watch_until_refused(pipeline))
            await pipeline.until_acknowledged(300)
            assert await server.stop() == 0
    errors = [task.result() for task in (*reporting, watching)]
    assert {error.code() for error in errors} == {grpc.StatusCode.UNAVAILABLE}
    reasons = [details_of(error).reason for error in errors]
    # Calls after the port was closed get an error of their own client.
    assert reasons.count("DRAINING") > len(reasons) / 2, reasons
    assert details_of(watching.result()).reason == "DRAINING"
    assert "Traceback" not in Path(f"{db}.log").read_text()
    async with running(db) as again, Stubs(again.grpc) as client:
        batch = await client.status.GetBatch(
            s.GetBatchRequest(dataset_id=dataset_id, batch_id=pipeline.batch_id)
        )
    assert batch.batch.revision == max(revision for revision, _, _ in pipeline.acknowledged)


async def _watch_across_restarts(pipeline: Pipeline, record: WatchRecord) -> None:
    async for message in pipeline.client.watch(pipeline.watch_request()):
        record.receive(message)


async def _report_until_refused(pipeline: Pipeline, document_id: str) -> aio.AioRpcError:
    """Start attempts at the document again and again; each is a transition."""
    number = 0
    while True:
        number += 1
        try:
            await pipeline.start(document_id, f"worker-{number}")
        except aio.AioRpcError as error:
            return error


async def _watch_until_refused(pipeline: Pipeline) -> aio.AioRpcError:
    try:
        await pipeline.record()
    except aio.AioRpcError as error:
        return error
    raise AssertionError("the batch has not ended")


async def test_call_waiting_for_the_store_is_finished_and_acknowledged(
    config: Config, clock: Clock, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if that takes longer than the hang-up."""
    monkeypatch.setattr(rpc_server, "_HANG_UP_S", 0.0)
    app = App(replace(config, drain_s=20.0), clock=clock)
    async with app, Stubs(app.grpc_address) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a")
        with contextlib.closing(sqlite3.connect(config.db, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            starting = asyncio.create_task(calls.start("a"))
            await until(lambda: len(app._rpc._pipeline._waiting._waiting) == 1)
            leaving = asyncio.create_task(app.__aexit__())
            await until(lambda: app._rpc._pipeline._running._closed)
            for _ in range(20):
                assert (await refused(calls.batch())).reason == "DRAINING"
            assert not starting.done()
            assert not app._readiness.ready
            other.execute("ROLLBACK")
        assert (await starting).attempt == 1
        await leaving


async def test_stopping_server_writes_heartbeats_and_releases_the_lease(
    config: Config, clock: Clock, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "_GATHER_S", 3_600.0)
    app = App(replace(config, scan_every_s=0.01), clock=clock, monotonic=clock.monotonic)
    async with open_node(config.db, clock) as other:
        async with app, Stubs(app.grpc_address) as client:
            calls = Calls(client, dataset_id)
            await calls.create("a", stall_after=Duration(seconds=60))
            await calls.start("a")
            clock.pass_time(2)
            await calls.orders("a")
            async with asyncio.timeout(600):
                while not (await other.lease()).holder:
                    pass
            assert [timer.heard_at for timer in await other.timers()] == [START_US]
        assert [timer.heard_at for timer in await other.timers()] == [clock.now_us]
        assert not (await other.lease()).holder


@pytest.mark.slow
async def test_sigterm_ends_1000_watches_despite_stopped_readers(
    tmp_path: Path, dataset_id: str
) -> None:
    async with (
        running(tmp_path / "stagecast.db") as server,
        Stubs(server.grpc) as client,
        aio.insecure_channel(server.grpc, options=NO_READ_AHEAD) as lazy,
    ):
        small, large = Pipeline(client, dataset_id), Pipeline(client, dataset_id)
        await small.create(3, more_documents_follow=True)
        await large.create(3_000, more_documents_follow=True)
        stopped = [StatusServiceStub(lazy).WatchBatch(large.watch_request()) for _ in range(100)]
        for call in stopped:
            await call.read()
        health = HealthStub(lazy).Watch(health_pb2.HealthCheckRequest())
        assert (await read(health)).status == health_pb2.HealthCheckResponse.SERVING
        async with contextlib.AsyncExitStack() as stack, asyncio.timeout(600):
            streams = [await stack.enter_async_context(small.stream()) for _ in range(1_000)]
            messages = [await stream.read() for stream in streams]
            assert await server.stop() == 0
            assert (await read(health)).status == health_pb2.HealthCheckResponse.NOT_SERVING
            errors = [await stream.error() for stream in streams]
        assert all(message.resume_token for message in messages)
        details = [details_of(error) for error in errors]
        assert {detail.reason for detail in details} == {"DRAINING"}
        pauses = {detail.retry_after_s for detail in details}
        assert None not in pauses
        assert len(pauses) > 100, "they do not reconnect together"


@pytest.mark.slow
async def test_restart_under_2000_watches_gives_each_the_next_revision_once(
    tmp_path: Path, dataset_id: str
) -> None:
    db, address = tmp_path / "stagecast.db", free_address()
    records = [WatchRecord() for _ in range(2_000)]
    async with running(db, grpc=address) as server, Stubs(address) as client:
        pipeline = Pipeline(client, dataset_id)
        await pipeline.create(5, more_documents_follow=True)
        watching = [
            asyncio.create_task(_watch_across_restarts(pipeline, record)) for record in records
        ]
        await until(lambda: all(record.resume_token for record in records))
        assert await server.stop() == 0
        async with running(db, grpc=address), asyncio.timeout(600):
            for stage in STAGES:
                await retrying(partial(pipeline.stage, stage))
            await pipeline.seal()
            await asyncio.gather(*watching)
            check_all(records, pipeline, await pipeline.documents())

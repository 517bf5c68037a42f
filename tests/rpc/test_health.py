"""Health, for load balancers and orchestrators."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2
from sqlite_utils.utils import sqlite3

from stagecast.app import App
from stagecast.config import Config
from stagecast.errors import Draining, WatchExpired
from stagecast.rpc.health import HealthServicer
from stagecast.store.sqlite import connection as store_connection
from tests.clock import Clock
from tests.grpc_calls import HealthStub, read, unary_unary
from tests.rpc.calls import Refusal, refused

SERVICES = [
    "",
    "stagecast.v1.StatusService",
    "stagecast.v1.ReportService",
    "stagecast.v1.ControlService",
]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def config(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A server with frequent probes of the store and a short lock timeout."""
    monkeypatch.setattr(store_connection, "BUSY_TIMEOUT_MS", 20)
    return dataclasses.replace(config, probe_every_s=0.02)


@pytest.fixture
async def health(server: App) -> AsyncIterator[HealthStub]:
    async with aio.insecure_channel(server.grpc_address) as channel:
        yield HealthStub(channel)


def _about(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


@pytest.mark.parametrize("service", SERVICES)
async def test_server_and_each_of_its_services_are_serving(
    health: HealthStub, service: str
) -> None:
    assert (await health.Check(_about(service))).status == SERVING


@pytest.mark.parametrize("service", ["nope", "stagecast.v1", "stagecast.v2.StatusService"])
async def test_unknown_service_is_not_found(health: HealthStub, service: str) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await health.Check(_about(service))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_list_of_health_is_unimplemented(
    server: App, caplog: pytest.LogCaptureFixture
) -> None:
    async with aio.insecure_channel(server.grpc_address) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await unary_unary(channel, "/grpc.health.v1.Health/List")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_watch_of_an_unknown_service_reports_it_and_stays_open(health: HealthStub) -> None:
    watch = health.Watch(_about("nope"))
    async with asyncio.timeout(60):
        response = await read(watch)
    assert response.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


@pytest.mark.parametrize("service", SERVICES)
async def test_watch_follows_whether_the_store_is_writable(
    health: HealthStub, config: Config, service: str
) -> None:
    watch = health.Watch(_about(service))
    with contextlib.closing(sqlite3.connect(config.db, isolation_level=None)) as other:
        async with asyncio.timeout(60):
            assert (await read(watch)).status == SERVING
            other.execute("BEGIN IMMEDIATE")
            assert (await read(watch)).status == NOT_SERVING
            assert (await health.Check(_about(service))).status == NOT_SERVING
            other.execute("ROLLBACK")
            assert (await read(watch)).status == SERVING
    watch.cancel()


async def test_store_outage_and_recovery_are_logged_once_each(
    health: HealthStub, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="stagecast")
    watch = health.Watch(_about(""))
    with contextlib.closing(sqlite3.connect(config.db, isolation_level=None)) as other:
        async with asyncio.timeout(60):
            await read(watch)
            other.execute("BEGIN IMMEDIATE")
            await read(watch)
            other.execute("ROLLBACK")
            await read(watch)
    watch.cancel()
    reported = [
        record.getMessage()
        for record in caplog.records
        if record.name == "stagecast.background.readiness"
    ]
    assert len(reported) == 2
    assert "locked" in reported[0]
    assert "again" in reported[1]


async def test_draining_server_reports_not_serving(config: Config, clock: Clock) -> None:
    app = App(config, clock=clock)
    await app.__aenter__()
    async with aio.insecure_channel(app.grpc_address) as channel, asyncio.timeout(60):
        watches = [HealthStub(channel).Watch(_about(service)) for service in SERVICES]
        streams = [aiter(watch) for watch in watches]
        for stream in streams:
            assert (await anext(stream)).status == SERVING
        # Reads start before the drain: grpc may lose unread messages of an ended call.
        reading = [asyncio.create_task(_end_of(stream)) for stream in streams]
        leaving = asyncio.create_task(app.__aexit__())
        for status, refusal in await asyncio.gather(*reading):
            assert status == NOT_SERVING
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            assert refusal.retry_after_s
        await leaving


async def _end_of(stream: AsyncIterator[Any]) -> tuple[int, Refusal]:
    """Return the next status of a watch, and its error."""
    return (await anext(stream)).status, await refused(anext(stream))


# Without gRPC, so that the status can change between two steps of a watch.


async def test_draining_server_stays_not_serving_when_the_store_recovers() -> None:
    health: Any = HealthServicer((), watch_life_s=600.0)
    health.set_serving(True)
    health.drain()
    health.set_serving(True)
    assert (await health.Check(_about(""), None)).status == NOT_SERVING


@pytest.mark.parametrize("service", ["", "nope"])
async def test_watch_sends_no_unchanged_status(service: str) -> None:
    health: Any = HealthServicer((), watch_life_s=600.0)
    watch = health.Watch(_about(service), None)
    await anext(watch)
    following = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)  # it waits
    health.set_serving(True)
    health.set_serving(False)
    await asyncio.wait((following,), timeout=0.01)
    assert not following.done()
    health.drain()
    with pytest.raises(Draining):
        async with asyncio.timeout(60):
            await following


async def test_health_watch_ends_after_its_lifetime() -> None:
    health: Any = HealthServicer((), watch_life_s=0.01)
    async with asyncio.timeout(60):
        with pytest.raises(WatchExpired):
            async for _ in health.Watch(health_pb2.HealthCheckRequest(), None):
                pass

"""Requests that do not come, or not wholly: their calls end, and cost nobody else anything."""

from __future__ import annotations

import asyncio
import dataclasses
import struct
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio

from stagecast.app import App
from stagecast.client import Client
from stagecast.config import Config
from stagecast.v1 import status_service_pb2 as ss
from tests.access import make_key
from tests.clock import Clock
from tests.conditions import until
from tests.rpc.calls import Calls, Refusal, refused
from tests.rpc.http2 import raw_connection

Code = grpc.StatusCode

GET = "/stagecast.v1.StatusService/GetDataset"
WAIT = "/stagecast.v1.StatusService/WaitBatch"
WATCH = "/stagecast.v1.StatusService/WatchBatch"
REPORT = "/stagecast.v1.ReportService/Report"
CHECK = "/grpc.health.v1.Health/Check"
WATCH_HEALTH = "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
ALL = (GET, WAIT, WATCH, REPORT, CHECK, WATCH_HEALTH, REFLECT)

HALF = struct.pack(">BI", 0, 4 << 20) + b"\x0a" + 1_000 * b"x"  # of a message of 4 MiB

SOON_S = 0.2


@pytest.fixture
def config(config: Config) -> Config:
    return dataclasses.replace(config, request_s=SOON_S)


@pytest.fixture
def patient(config: Config) -> Config:
    """Settings of a server that waits for requests longer than any test runs."""
    return dataclasses.replace(config, request_s=600.0)


async def send_nothing() -> AsyncIterator[bytes]:
    """Be a request that never comes."""
    await asyncio.Event().wait()
    yield b""


async def ending(channel: aio.Channel, method: str, requests: Any, **how: Any) -> Refusal:
    """Return how a call with these requests is refused."""
    call = channel.stream_stream(method)(requests, **how)
    return await refused(_all(call))


async def _all(call: Any) -> list[Any]:
    return [message async for message in call]


@pytest.mark.parametrize("method", ALL)
async def test_call_without_a_request_ends_in_time(server: App, method: str) -> None:
    async with aio.insecure_channel(server.grpc_address) as channel:
        refusal = await ending(channel, method, send_nothing())
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "SLOW_SENDER")
    assert refusal.retry_after_s
    assert server.open_watches == 0


@pytest.mark.parametrize("method", ALL)
async def test_call_with_half_a_request_ends_in_time_and_is_let_go(
    server: App, method: str
) -> None:
    async with raw_connection(server.grpc_address) as connection:
        streams = [connection.begin(method, HALF) for _ in range(100)]
        async with asyncio.timeout(60):
            await connection.read_until_reset(*streams)
    await until(lambda: server.open_watches == 0)


@pytest.mark.parametrize("method", [one for one in ALL if one != REFLECT])
async def test_call_whose_client_has_ended_without_a_request_is_told_so(
    server: App, method: str
) -> None:
    async with aio.insecure_channel(server.grpc_address) as channel:
        refusal = await ending(channel, method, iter(()))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "FIELD_INVALID")


@pytest.mark.parametrize("method", [GET, WAIT, WATCH, REPORT])
async def test_who_has_no_key_is_refused_before_anything_is_read(
    patient: Config, clock: Clock, method: str
) -> None:
    await make_key(patient.db)
    async with App(patient, clock=clock) as app:
        async with aio.insecure_channel(app.grpc_address) as channel:
            refusal = await ending(channel, method, send_nothing())
        assert (refusal.code, refusal.reason) == (Code.UNAUTHENTICATED, "CREDENTIALS_MISSING")
        async with raw_connection(app.grpc_address) as connection:
            async with asyncio.timeout(60):
                await connection.read_until_reset(connection.begin(method, HALF))


async def test_the_oldest_of_too_many_requests_that_do_not_come_is_given_up(
    patient: Config, clock: Clock, dataset_id: str
) -> None:
    few = dataclasses.replace(patient, max_waiting_calls=3)
    async with (
        App(few, clock=clock) as app,
        Client(app.grpc_address) as client,
        raw_connection(app.grpc_address) as connection,
        asyncio.timeout(60),
    ):
        oldest, next_oldest, *_ = [connection.begin(GET, HALF) for _ in range(4)]
        await connection.read_until_reset(oldest)
        await Calls(client, dataset_id).create("a")  # whoever sends is answered
        await connection.read_until_reset(next_oldest)


async def test_requests_that_do_not_come_do_not_hold_up_the_end(
    patient: Config, clock: Clock
) -> None:
    waiting_long = dataclasses.replace(patient, drain_s=600.0)
    async with App(waiting_long, clock=clock) as app:
        channel = aio.insecure_channel(app.grpc_address)
        call = channel.stream_stream(WATCH)(send_nothing())
        await until(lambda: app.open_watches == 1)
    refusal = await refused(_all(call))
    assert (refusal.code, refusal.reason) == (Code.UNAVAILABLE, "DRAINING")
    await channel.close()


async def test_client_that_leaves_before_its_request_is_forgotten(
    patient: Config, clock: Clock
) -> None:
    async with App(patient, clock=clock) as app, aio.insecure_channel(app.grpc_address) as channel:
        calls = [channel.stream_stream(WATCH)(send_nothing()) for _ in range(20)]
        await until(lambda: app.open_watches == 20)
        for call in calls:
            call.cancel()
        await until(lambda: app.open_watches == 0)


@pytest.mark.parametrize("method", [WATCH, WAIT])
async def test_deadline_ends_a_call_whose_request_does_not_come(
    patient: Config, clock: Clock, method: str
) -> None:
    async with App(patient, clock=clock) as app:
        async with aio.insecure_channel(app.grpc_address) as channel:
            with pytest.raises(aio.AioRpcError) as caught:
                await _all(channel.stream_stream(method)(send_nothing(), timeout=0.2))
            assert caught.value.code() is Code.DEADLINE_EXCEEDED
        await until(lambda: app.open_watches == 0)


async def test_request_that_comes_piece_by_piece_is_answered(
    patient: Config, clock: Clock, dataset_id: str
) -> None:
    async with App(patient, clock=clock) as app, Client(app.grpc_address) as client:
        await Calls(client, dataset_id).create("a")
        async with aio.insecure_channel(app.grpc_address) as channel:
            arriving = asyncio.Event()

            async def late() -> AsyncIterator[bytes]:
                await arriving.wait()
                yield ss.GetDatasetRequest(dataset_id=dataset_id).SerializeToString()

            call = channel.stream_unary(GET, None, ss.GetDatasetResponse.FromString)(late())
            await asyncio.wait((asyncio.ensure_future(call),), timeout=0)
            arriving.set()
            assert (await call).dataset.dataset_id == dataset_id

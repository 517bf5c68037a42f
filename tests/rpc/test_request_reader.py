"""Missing and incomplete requests: their calls end and do not affect others."""

from __future__ import annotations

import asyncio
import dataclasses
import struct
import weakref
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config
from stagecast.errors import SlowSender
from stagecast.rpc import request_reader
from stagecast.rpc.running_calls import RunningCall
from stagecast.v1 import status_service_pb2 as ss
from tests.access import make_key
from tests.clock import Clock
from tests.conditions import until
from tests.grpc_calls import stream_stream
from tests.rpc.calls import BATCH, Calls, Refusal, refused
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
def long_timeout(config: Config) -> Config:
    """Settings with a request timeout longer than any test."""
    return dataclasses.replace(config, request_s=600.0)


async def send_nothing() -> AsyncIterator[bytes]:
    """Yield no request, and never end."""
    await asyncio.Event().wait()
    yield b""


async def ending(channel: aio.Channel, method: str, requests: Any) -> Refusal:
    """Return the error of a call with these requests."""
    async with asyncio.timeout(60):
        return await refused(_all(stream_stream(channel, method)(requests)))


async def _all(call: Any) -> list[Any]:
    return [message async for message in call]


@pytest.mark.parametrize("method", ALL)
async def test_call_without_a_request_times_out(
    server: App, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with aio.insecure_channel(server.grpc_address) as channel:
        refusal = await ending(channel, method, send_nothing())
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "SLOW_SENDER")
    assert refusal.retry_after_s
    assert server.open_watches == 0
    assert not caplog.records, "not logged as a bug"


@pytest.mark.parametrize("method", ALL)
async def test_call_with_half_a_request_times_out_and_is_reset(server: App, method: str) -> None:
    async with raw_connection(server.grpc_address) as connection:
        streams = [connection.begin(method, HALF) for _ in range(100)]
        async with asyncio.timeout(60):
            await connection.read_until_reset(*streams)
    await until(lambda: server.open_watches == 0)


@pytest.mark.parametrize("method", [one for one in ALL if one != REFLECT])
async def test_call_closed_without_a_request_is_invalid(
    long_timeout: Config, clock: Clock, method: str
) -> None:
    async with (
        App(long_timeout, clock=clock) as server,
        aio.insecure_channel(server.grpc_address) as channel,
    ):
        refusal = await ending(channel, method, iter(()))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "FIELD_INVALID")
    assert refusal.message == "request: missing, incomplete, or impossible to decompress"


async def test_undecodable_request_is_invalid(server: App) -> None:
    async with aio.insecure_channel(server.grpc_address) as channel:
        refusal = await ending(channel, GET, iter([b"\x0a\x7fcut"]))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "FIELD_INVALID")
    assert refusal.message == "request: cannot be decoded (size in bytes: 5)"


@pytest.mark.parametrize("method", [GET, WAIT, WATCH, REPORT])
async def test_call_without_key_is_refused_before_its_request_is_read(
    long_timeout: Config, clock: Clock, method: str
) -> None:
    await make_key(long_timeout.db)
    async with App(long_timeout, clock=clock) as app:
        async with aio.insecure_channel(app.grpc_address) as channel:
            refusal = await ending(channel, method, send_nothing())
        assert (refusal.code, refusal.reason) == (Code.UNAUTHENTICATED, "CREDENTIALS_MISSING")
        async with raw_connection(app.grpc_address) as connection:
            async with asyncio.timeout(60):
                await connection.read_until_reset(connection.begin(method, HALF))


async def test_oldest_of_too_many_missing_requests_is_given_up(
    long_timeout: Config, clock: Clock, dataset_id: str
) -> None:
    few = dataclasses.replace(long_timeout, max_waiting_calls=3)
    async with (
        App(few, clock=clock) as app,
        Stubs(app.grpc_address) as client,
        raw_connection(app.grpc_address) as connection,
        asyncio.timeout(60),
    ):
        oldest, next_oldest, _ = [connection.begin(WATCH, HALF) for _ in range(3)]
        await until(lambda: app.open_watches == 3)
        await Calls(client, dataset_id).create("a")  # a complete request is answered
        await connection.read_until_reset(oldest)
        await until(lambda: app.open_watches == 2)
        connection.begin(WATCH, HALF)
        connection.begin(WATCH, HALF)
        await connection.read_until_reset(next_oldest)
        await until(lambda: app.open_watches == 3)


async def test_later_requests_get_a_short_timeout_and_earlier_ones_keep_theirs(
    long_timeout: Config, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_reader, "_MANY", 3)
    monkeypatch.setattr(request_reader, "_SHORT_TIMEOUT_S", SOON_S)
    async with (
        App(long_timeout, clock=clock) as app,
        raw_connection(app.grpc_address) as connection,
        asyncio.timeout(60),
    ):
        for _ in range(3):
            connection.begin(WATCH, HALF)
        await until(lambda: app.open_watches == 3)
        for _ in range(3):
            await connection.read_until_reset(connection.begin(WATCH, HALF))
            await until(lambda: app.open_watches == 3)


async def test_short_timeout_never_exceeds_the_normal_one(
    server: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_reader, "_MANY", 0)
    monkeypatch.setattr(request_reader, "_SHORT_TIMEOUT_S", 600.0)
    async with raw_connection(server.grpc_address) as connection, asyncio.timeout(60):
        await connection.read_until_reset(connection.begin(GET, HALF))


@pytest.mark.slow
async def test_missing_requests_do_not_delay_shutdown(long_timeout: Config, clock: Clock) -> None:
    long_drain = dataclasses.replace(long_timeout, drain_s=600.0)
    async with asyncio.timeout(60), App(long_drain, clock=clock) as app:
        channel = aio.insecure_channel(app.grpc_address)
        call = stream_stream(channel, WATCH)(send_nothing())
        await until(lambda: app.open_watches == 1)
    refusal = await refused(_all(call))
    assert (refusal.code, refusal.reason) == (Code.UNAVAILABLE, "DRAINING")
    assert refusal.retry_after_s
    await channel.close()


async def test_request_arriving_during_a_drain_is_answered(
    long_timeout: Config, clock: Clock, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_reader, "_DRAINING_S", 600.0)
    long_drain = dataclasses.replace(long_timeout, drain_s=600.0)
    app = await App(long_drain, clock=clock).__aenter__()
    async with Stubs(app.grpc_address) as client, asyncio.timeout(60):
        await Calls(client, dataset_id).create()  # an empty batch ends at once
        async with aio.insecure_channel(app.grpc_address) as channel:
            sending = asyncio.Event()
            names: dict[str, Any] = {"dataset_id": dataset_id, "batch_id": BATCH}

            async def late() -> AsyncIterator[bytes]:
                await sending.wait()
                yield ss.WaitBatchRequest(**names).SerializeToString()

            wait: aio.StreamStreamMultiCallable[bytes, ss.WaitBatchResponse] = (
                channel.stream_stream(WAIT, None, ss.WaitBatchResponse.FromString)
            )
            waiting = wait(late())
            watch = client.status.WatchDatasets(ss.WatchDatasetsRequest())
            await until(lambda: app.open_watches == 2)
            leaving = asyncio.create_task(app.__aexit__())
            assert (await refused(_all(watch))).reason == "DRAINING"
            sending.set()
            [answer] = await _all(waiting)
            assert answer.done
            await leaving


async def test_client_cancelling_before_its_request_is_forgotten(
    long_timeout: Config, clock: Clock
) -> None:
    async with (
        App(long_timeout, clock=clock) as app,
        aio.insecure_channel(app.grpc_address) as channel,
    ):
        calls = [stream_stream(channel, WATCH)(send_nothing()) for _ in range(20)]
        await until(lambda: app.open_watches == 20)
        for call in calls:
            call.cancel()
        await until(lambda: app.open_watches == 0)


@pytest.mark.parametrize("method", [WATCH, WAIT])
async def test_deadline_ends_a_call_without_a_request(
    long_timeout: Config, clock: Clock, method: str
) -> None:
    async with App(long_timeout, clock=clock) as app:
        async with aio.insecure_channel(app.grpc_address) as channel:
            with pytest.raises(aio.AioRpcError) as caught:
                await _all(stream_stream(channel, method)(send_nothing(), timeout=0.2))
            assert caught.value.code() is Code.DEADLINE_EXCEEDED
        await until(lambda: app.open_watches == 0)


async def test_late_request_is_answered(
    long_timeout: Config, clock: Clock, dataset_id: str
) -> None:
    async with App(long_timeout, clock=clock) as app, Stubs(app.grpc_address) as client:
        await Calls(client, dataset_id).create("a")
        async with aio.insecure_channel(app.grpc_address) as channel:
            arriving = asyncio.Event()

            async def late() -> AsyncIterator[bytes]:
                await arriving.wait()
                yield ss.GetDatasetRequest(dataset_id=dataset_id).SerializeToString()

            get: aio.StreamUnaryMultiCallable[bytes, ss.GetDatasetResponse] = channel.stream_unary(
                GET, None, ss.GetDatasetResponse.FromString
            )
            call = get(late())
            await asyncio.wait((asyncio.ensure_future(call),), timeout=0)
            arriving.set()
            assert (await call).dataset.dataset_id == dataset_id


# Without gRPC, to check that nothing is left behind.


class Sender:
    """The context of a call whose requests arrive at once, and then no more."""

    def __init__(self, *requests: bytes) -> None:
        self._requests = list(requests)

    async def read(self) -> object:
        if self._requests:
            return self._requests.pop(0)
        return await asyncio.Event().wait()


def call_of(sender: Any) -> RunningCall:
    """Return a call of the running task."""
    return RunningCall(sender)


def reader_of(*, limit: int) -> request_reader.RequestReader:
    return request_reader.RequestReader(timeout_s=600.0, limit=limit)


async def test_nothing_is_left_of_a_received_request() -> None:
    reader, sender = reader_of(limit=1), Sender(b"request")
    left = weakref.ref(sender)
    assert await reader.read(call_of(sender)) == b"request"
    del sender
    assert left() is None
    assert await reader.read(call_of(Sender(b"another"))) == b"another"


async def test_request_arriving_while_given_up_is_answered() -> None:
    reader = reader_of(limit=0)
    assert await reader.read(call_of(Sender(b"request"))) == b"request"
    await asyncio.sleep(0)  # nothing cancels this task
    await asyncio.sleep(0)


async def test_nothing_is_left_of_a_request_given_up() -> None:
    reader, errors, left = reader_of(limit=0), list[Any](), list[weakref.ref[Any]]()

    async def read() -> None:
        sender = Sender()
        left.append(weakref.ref(sender))
        call = call_of(sender)
        try:
            await reader.read(call)
        except asyncio.CancelledError as error:
            errors.append(call.leave(error))

    async with asyncio.timeout(60):
        await asyncio.create_task(read())
    assert [type(error) for error in errors] == [SlowSender]
    assert left[0]() is None
    assert not reader._awaited


async def test_silent_connection_is_closed(config: Config, clock: Clock) -> None:
    """Before it starts HTTP/2."""
    brief = dataclasses.replace(config, request_s=0.2)
    async with App(brief, clock=clock) as server:
        host, _, port = server.grpc_address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(60):
            while await reader.read(1_024):
                pass
        writer.close()

"""Requests that do not come, or not wholly: their calls end, and cost nobody else anything."""

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
from stagecast.client import Client
from stagecast.config import Config
from stagecast.errors import StagecastError
from stagecast.rpc import request_reader
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
def patient(config: Config) -> Config:
    """Settings of a server that waits for requests longer than any test runs."""
    return dataclasses.replace(config, request_s=600.0)


async def send_nothing() -> AsyncIterator[bytes]:
    """Be a request that never comes."""
    await asyncio.Event().wait()
    yield b""


async def ending(channel: aio.Channel, method: str, requests: Any) -> Refusal:
    """Return how a call with these requests is refused."""
    async with asyncio.timeout(60):
        return await refused(_all(stream_stream(channel, method)(requests)))


async def _all(call: Any) -> list[Any]:
    return [message async for message in call]


@pytest.mark.parametrize("method", ALL)
async def test_call_without_a_request_ends_in_time(
    server: App, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with aio.insecure_channel(server.grpc_address) as channel:
        refusal = await ending(channel, method, send_nothing())
    assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "SLOW_SENDER")
    assert refusal.retry_after_s
    assert server.open_watches == 0
    assert not caplog.records, "it is no bug of ours"


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
    patient: Config, clock: Clock, method: str
) -> None:
    async with (
        App(patient, clock=clock) as server,
        aio.insecure_channel(server.grpc_address) as channel,
    ):
        refusal = await ending(channel, method, iter(()))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "FIELD_INVALID")
    assert "no whole message came" in refusal.message


async def test_request_that_cannot_be_decoded_is_told_so(server: App) -> None:
    async with aio.insecure_channel(server.grpc_address) as channel:
        refusal = await ending(channel, GET, iter([b"\x0a\x7fcut"]))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "FIELD_INVALID")
    assert refusal.message == "request: cannot be decoded (size in bytes: 5)"


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
        oldest, next_oldest, _ = [connection.begin(WATCH, HALF) for _ in range(3)]
        await until(lambda: app.open_watches == 3)
        await Calls(client, dataset_id).create("a")  # whoever sends is answered
        await connection.read_until_reset(oldest)
        await until(lambda: app.open_watches == 2)
        connection.begin(WATCH, HALF)
        connection.begin(WATCH, HALF)
        await connection.read_until_reset(next_oldest)
        await until(lambda: app.open_watches == 3)


async def test_who_comes_when_many_do_not_send_has_less_time_and_the_others_keep_theirs(
    patient: Config, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_reader, "_FEW", 3)
    monkeypatch.setattr(request_reader, "_HURRIED_S", SOON_S)
    async with (
        App(patient, clock=clock) as app,
        raw_connection(app.grpc_address) as connection,
        asyncio.timeout(60),
    ):
        for _ in range(3):
            connection.begin(WATCH, HALF)
        await until(lambda: app.open_watches == 3)
        for _ in range(3):
            await connection.read_until_reset(connection.begin(WATCH, HALF))
            await until(lambda: app.open_watches == 3)


async def test_nobody_has_more_time_when_many_do_not_send(
    server: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_reader, "_FEW", 0)
    monkeypatch.setattr(request_reader, "_HURRIED_S", 600.0)
    async with raw_connection(server.grpc_address) as connection, asyncio.timeout(60):
        await connection.read_until_reset(connection.begin(GET, HALF))


@pytest.mark.slow
async def test_requests_that_do_not_come_do_not_hold_up_the_end(
    patient: Config, clock: Clock
) -> None:
    waiting_long = dataclasses.replace(patient, drain_s=600.0)
    async with asyncio.timeout(60), App(waiting_long, clock=clock) as app:
        channel = aio.insecure_channel(app.grpc_address)
        call = stream_stream(channel, WATCH)(send_nothing())
        await until(lambda: app.open_watches == 1)
    refusal = await refused(_all(call))
    assert (refusal.code, refusal.reason) == (Code.UNAVAILABLE, "DRAINING")
    assert refusal.retry_after_s
    await channel.close()


async def test_request_that_is_on_its_way_when_the_server_drains_is_answered(
    patient: Config, clock: Clock, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_reader, "_DRAINING_S", 600.0)
    waiting_long = dataclasses.replace(patient, drain_s=600.0)
    app = await App(waiting_long, clock=clock).__aenter__()
    async with Client(app.grpc_address) as client, asyncio.timeout(60):
        await Calls(client, dataset_id).create()  # and so it has ended
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


async def test_client_that_leaves_before_its_request_is_forgotten(
    patient: Config, clock: Clock
) -> None:
    async with App(patient, clock=clock) as app, aio.insecure_channel(app.grpc_address) as channel:
        calls = [stream_stream(channel, WATCH)(send_nothing()) for _ in range(20)]
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
                await _all(stream_stream(channel, method)(send_nothing(), timeout=0.2))
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

            get: aio.StreamUnaryMultiCallable[bytes, ss.GetDatasetResponse] = channel.stream_unary(
                GET, None, ss.GetDatasetResponse.FromString
            )
            call = get(late())
            await asyncio.wait((asyncio.ensure_future(call),), timeout=0)
            arriving.set()
            assert (await call).dataset.dataset_id == dataset_id


# Below gRPC, where what is left behind can be seen.


class Sender:
    """A client, as far as its requests go: they are there at once, and then no more come."""

    def __init__(self, *requests: object) -> None:
        self._requests = list(requests)

    async def read(self) -> object:
        if self._requests:
            return self._requests.pop(0)
        return await asyncio.Event().wait()


class Ended:
    """What was ended, and by which tasks, without holding any of them."""

    def __init__(self) -> None:
        self.errors: list[StagecastError] = []
        self.tasks: list[weakref.ref[Any]] = []

    async def __call__(self, _: object, error: StagecastError) -> None:
        self.errors.append(error)
        self.tasks.append(weakref.ref(asyncio.current_task()))


def reading(ended: Ended, *, maximum: int) -> Any:
    """Return what reads from senders."""
    return request_reader.RequestReader(timeout_s=600.0, limit=maximum, end=ended)


async def test_nothing_is_left_of_a_request_that_has_come() -> None:
    ended = Ended()
    reader, sender = reading(ended, maximum=1), Sender("request")
    left = weakref.ref(sender)
    assert await reader.read(sender) == "request"
    del sender
    assert left() is None
    assert await reader.read(Sender("another")) == "another"
    await asyncio.sleep(0)
    assert not ended.errors


async def test_request_that_comes_as_it_is_given_up_is_answered() -> None:
    ended = Ended()
    assert await reading(ended, maximum=0).read(Sender("request")) == "request"
    await asyncio.sleep(0)
    assert not ended.errors


async def test_nothing_is_left_of_a_request_that_was_given_up() -> None:
    ended = Ended()
    reader = reading(ended, maximum=0)
    waiting = asyncio.create_task(reader.read(Sender()))
    await until(lambda: len(ended.errors) == 1)
    waiting.cancel()
    await asyncio.wait((waiting,))
    assert [left() for left in ended.tasks] == [None]


async def test_connection_on_which_nothing_is_said_is_closed(config: Config, clock: Clock) -> None:
    """Before there is a call, and whatever it may still become."""
    impatient = dataclasses.replace(config, request_s=0.2)
    async with App(impatient, clock=clock) as server:
        host, _, port = server.grpc_address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(60):
            while await reader.read(1_024):
                pass
        writer.close()

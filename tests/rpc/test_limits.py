"""Limits: calls beyond them get an error with a retry delay."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from sqlite_utils.utils import sqlite3

from stagecast.app import App
from stagecast.client import Stubs
from stagecast.config import Config, split_address
from stagecast.errors import StoreBusy, WatchLimit
from stagecast.rpc import request_reader
from stagecast.rpc.limits import WaitingCalls, WatchLimits
from stagecast.rpc.running_calls import Context, RunningCall
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as ss
from tests.clock import Clock
from tests.conditions import until
from tests.grpc_calls import HealthStub, stream_stream, unary_unary
from tests.rpc.calls import BATCH, Calls, refused, stage
from tests.rpc.http2 import raw_connection, send_burst

Code = grpc.StatusCode

FEW = 3
BURST = 2_000


@pytest.fixture
def config(config: Config) -> Config:
    return dataclasses.replace(config, max_watches_per_caller=FEW, max_message_bytes=1 << 20)


def _watch_batch(channel: aio.Channel, dataset_id: str) -> Any:
    return channel.unary_stream(
        "/stagecast.v1.StatusService/WatchBatch",
        ss.WatchBatchRequest.SerializeToString,
        ss.WatchBatchResponse.FromString,
    )(ss.WatchBatchRequest(dataset_id=dataset_id, batch_id=BATCH))


def _watch_datasets(channel: aio.Channel, _: str) -> Any:
    method: aio.UnaryStreamMultiCallable[bytes, ss.WatchDatasetsResponse] = channel.unary_stream(
        "/stagecast.v1.StatusService/WatchDatasets", None, ss.WatchDatasetsResponse.FromString
    )
    return method(b"")


def _wait_batch(channel: aio.Channel, dataset_id: str) -> Any:
    return channel.unary_unary(
        "/stagecast.v1.StatusService/WaitBatch", ss.WaitBatchRequest.SerializeToString
    )(ss.WaitBatchRequest(dataset_id=dataset_id, batch_id=BATCH))


def _watch_health(channel: aio.Channel, _: str) -> Any:
    return HealthStub(channel).Watch(health_pb2.HealthCheckRequest())


def _reflect(channel: aio.Channel, _: str) -> Any:
    async def never_ending() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        await asyncio.Event().wait()

    stub: Any = ServerReflectionStub(cast("grpc.Channel", channel))  # its types allow no other
    return stub.ServerReflectionInfo(never_ending())


KINDS = (_watch_batch, _watch_datasets, _wait_batch, _watch_health, _reflect)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_caller_at_its_watch_limit_is_refused_until_a_watch_ends(
    server: App, calls: Calls, kind: Callable[[aio.Channel, str], Any]
) -> None:
    await calls.create("a")
    async with aio.insecure_channel(server.grpc_address) as channel:
        watches = [kind(channel, calls.dataset_id) for _ in range(FEW)]
        await until(lambda: server.open_watches == FEW)
        refusal = await refused(_first(kind(channel, calls.dataset_id)))
        assert refusal.code is Code.RESOURCE_EXHAUSTED
        assert refusal.reason == "WATCH_LIMIT"
        assert refusal.metadata == {"limit": str(FEW)}
        assert refusal.retry_after_s is not None
        assert 0.5 <= refusal.retry_after_s <= 5
        await calls.batch()  # other calls work
        watches[0].cancel()
        await until(lambda: server.open_watches == FEW - 1)
        again = kind(channel, calls.dataset_id)
        await until(lambda: server.open_watches == FEW)
        for watch in (*watches, again):
            watch.cancel()
        await until(lambda: server.open_watches == 0)


async def _first(call: Any) -> Any:
    return await (call.read() if hasattr(call, "read") else call)


async def test_watches_beyond_the_server_limit_are_refused(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    few = dataclasses.replace(config, max_watches=2)
    async with App(few, clock=clock) as app, aio.insecure_channel(app.grpc_address) as channel:
        watches = [_watch_datasets(channel, dataset_id) for _ in range(2)]
        for watch in watches:
            await watch.read()
        refusal = await refused(_first(_watch_datasets(channel, dataset_id)))
        assert (refusal.code, refusal.reason) == (Code.RESOURCE_EXHAUSTED, "WATCH_LIMIT")
        assert "too many watches on this server: 2 open" in refusal.message
        assert refusal.retry_after_s is not None


async def test_watches_of_health_leave_half_of_the_limit_to_others(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    few = dataclasses.replace(config, max_watches=4, max_watches_per_caller=4)
    async with App(few, clock=clock) as app, aio.insecure_channel(app.grpc_address) as channel:
        exempt = [_watch_health(channel, dataset_id), _reflect(channel, dataset_id)]
        for watch in exempt:
            await watch.read()
        refusal = await refused(_first(_watch_health(channel, dataset_id)))
        assert refusal.reason == "WATCH_LIMIT"
        others = [_watch_datasets(channel, dataset_id) for _ in range(2)]
        for watch in others:
            await watch.read()
        assert app.open_watches == 4


def test_watches_of_one_caller_are_not_counted_for_another() -> None:
    limits = WatchLimits(Config(max_watches_per_caller=1, max_watches=2))
    with limits.watch("a", exempt=False), limits.watch("b", exempt=False):
        with (
            pytest.raises(WatchLimit, match="of one caller: 1 open"),
            limits.watch("a", exempt=False),
        ):
            pass
        with (
            pytest.raises(WatchLimit, match="on this server: 2 open"),
            limits.watch("c", exempt=False),
        ):
            pass
    assert limits.watches == 0
    with limits.watch("c", exempt=False), limits.watch("a", exempt=False):
        assert limits.watches == 2
    assert not limits._watches, "callers without watches are forgotten"


async def test_refused_calls_get_different_retry_delays() -> None:
    waiting, delays_s = WaitingCalls(Config(max_waiting_calls=0)), set()
    for _ in range(20):
        with pytest.raises(StoreBusy) as caught:
            waiting.begin(call(), 0)
        delays_s.add(caught.value.retry_after_s)
    assert len(delays_s) > 10


def test_exempt_watches_may_repeatedly_use_half_of_the_limit() -> None:
    limits = WatchLimits(Config(max_watches=4))
    for _ in range(2):
        with limits.watch("a", exempt=True), limits.watch("b", exempt=True):
            with pytest.raises(WatchLimit) as caught, limits.watch("c", exempt=True):
                pass
            assert caught.value.metadata == {"limit": "4"}
            with limits.watch("c", exempt=False), limits.watch("d", exempt=False):
                assert limits.watches == 4


async def test_limits_of_waiting_calls_and_bytes_are_exact() -> None:
    waiting = WaitingCalls(Config(max_waiting_calls=2, max_waiting_bytes=10))
    for _ in range(2):
        waiting.begin(first := call(), 4)
        with pytest.raises(StoreBusy, match="waiting for the store: 1, with 4 bytes") as caught:
            waiting.begin(call(), 7)
        assert 0.5 <= caught.value.retry_after_s <= 5
        waiting.begin(second := call(), 6)
        with pytest.raises(StoreBusy, match="waiting for the store: 2,"):
            waiting.begin(call(), 0)
        waiting.end(first, 4)
        waiting.end(second, 6)


def call() -> RunningCall:
    """Return a call of the running task."""
    context: Context = None  # type: ignore[assignment]  # of no use here
    return RunningCall(context)


async def test_calls_beyond_the_waiting_limit_are_refused_and_others_answered(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    few = dataclasses.replace(config, max_waiting_calls=5, request_s=600)
    async with App(few, clock=clock) as app, Stubs(app.grpc_address) as client:
        calls = Calls(client, dataset_id)
        await calls.create(*(f"doc-{n}" for n in range(20)))
        with contextlib.closing(sqlite3.connect(config.db, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            reports = [
                asyncio.create_task(calls.report(stage(f"doc-{n}", r.STAGE_PARSING)))
                for n in range(20)
            ]
            await until(lambda: sum(report.done() for report in reports) == 15)
            assert not (await calls.wait(timeout=Duration())).done  # it counts as a watch
            async with aio.insecure_channel(app.grpc_address) as channel:
                await HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            other.execute("ROLLBACK")
        answers = await asyncio.gather(*reports, return_exceptions=True)
        errors = [error for error in answers if isinstance(error, BaseException)]
        assert len(errors) == 15
        for error in errors:
            refusal = await refused(_raise(error))
            assert (refusal.code, refusal.reason) == (Code.UNAVAILABLE, "STORE_BUSY")
            assert refusal.retry_after_s
        assert (await calls.batch()).counts.running == 5


async def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.slow
async def test_burst_of_calls_is_queued_and_none_is_lost(
    config: Config, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default, grpc would refuse some beyond a thousand pending calls."""
    monkeypatch.setattr(request_reader, "_SHORT_TIMEOUT_S", 600.0)
    many = dataclasses.replace(
        config, request_s=600.0, max_waiting_calls=BURST, max_watches_per_caller=BURST
    )
    async with App(many, clock=clock) as app:
        with socket.create_connection(split_address(app.grpc_address), timeout=60) as peer:
            # It blocks the event loop, and so the server.
            send_burst(peer, "/stagecast.v1.StatusService/WatchBatch", BURST)
            await until(lambda: app.open_watches == BURST)
        await until(lambda: app.open_watches == 0)


async def test_requests_beyond_the_waiting_bytes_are_refused(
    config: Config, clock: Clock, dataset_id: str
) -> None:
    few = dataclasses.replace(config, max_waiting_bytes=1_000)
    async with App(few, clock=clock) as app, Stubs(app.grpc_address) as client:
        calls = Calls(client, dataset_id)
        await calls.create("a")
        refusal = await refused(calls.create("x" * 250, "y" * 250, "z" * 250, "w" * 250))
        assert refusal.reason == "STORE_BUSY"
        await calls.report(stage("a", r.STAGE_PARSING))


async def test_too_large_messages_and_headers_are_refused_by_grpc(
    server: App, config: Config
) -> None:
    async with aio.insecure_channel(server.grpc_address) as channel:
        report = unary_unary(channel, "/stagecast.v1.ReportService/Report")
        largest = await refused(report(b"\xff" * config.max_message_bytes))
        assert largest.reason == "FIELD_INVALID", "it was received, but is not a message"
        large = (("x-large", "x" * (config.max_header_bytes - 1_000)),)
        for _ in range(20):  # grpc's own soft limit refuses some of these
            assert (await refused(report(b"", metadata=large))).reason == "FIELD_INVALID"
        for body, metadata in (
            (b"x" * (config.max_message_bytes + 1), ()),
            (b"", (("x-large", "x" * config.max_header_bytes),)),
        ):
            with pytest.raises(aio.AioRpcError) as caught:
                await report(body, metadata=metadata)
            assert caught.value.code() is Code.RESOURCE_EXHAUSTED


async def test_stream_limit_is_above_the_limits_with_a_reason(config: Config, clock: Clock) -> None:
    few = dataclasses.replace(config, max_watches=20, max_waiting_calls=5)
    async with App(few, clock=clock) as app, raw_connection(app.grpc_address) as connection:
        async with asyncio.timeout(60):
            assert await connection.read_max_streams() == 25


async def test_malformed_request_to_reflection_is_invalid(server: App) -> None:
    async with aio.insecure_channel(server.grpc_address) as channel:
        reflect = stream_stream(
            channel, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        )
        refusal = await refused(_first(reflect(iter([b"\xff\xff"]))))
        assert refusal.reason == "FIELD_INVALID"


async def test_connections_beyond_the_limit_are_closed_and_others_stay_open(
    config: Config, clock: Clock
) -> None:
    few = dataclasses.replace(config, max_connections=FEW)
    async with App(few, clock=clock) as app, aio.insecure_channel(app.grpc_address) as channel:
        health = HealthStub(channel)
        await health.Check(health_pb2.HealthCheckRequest())
        host, port = app.grpc_address.split(":")
        async with asyncio.timeout(60):
            opened = [await asyncio.open_connection(host, port) for _ in range(FEW)]
            greeted = [bool(await reader.read(1)) for reader, _ in opened]
        assert greeted == [True, True, False]
        await health.Check(health_pb2.HealthCheckRequest())
        for _, writer in opened:
            writer.close()

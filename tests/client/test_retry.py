"""Calls are retried only while that makes sense."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

import stagecast
from stagecast.client.endpoint import Endpoint
from stagecast.client.retry import Backoff, Retries
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import report_service_pb2_grpc


class UnavailableTwice(report_service_pb2_grpc.ReportServiceServicer):
    """A server that is unavailable twice, with a retry delay."""

    def __init__(self) -> None:
        self.calls = 0

    async def SealBatch(  # noqa: N802 - the proto's name
        self, request: pb.SealBatchRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.SealBatchResponse:
        self.calls += 1
        if self.calls < 3:
            packed = AnyMessage()
            packed.Pack(RetryInfo(retry_delay=Duration(nanos=1_000_000)))
            details = Status(code=14, details=[packed]).SerializeToString()
            await context.abort(
                grpc.StatusCode.UNAVAILABLE,
                "unavailable for now",
                trailing_metadata=(("grpc-status-details-bin", details),),
            )
        return pb.SealBatchResponse()


@pytest.fixture
async def unavailable_twice() -> AsyncIterator[tuple[UnavailableTwice, stagecast.AsyncClient]]:
    servicer = UnavailableTwice()  # type: ignore[abstract]  # in its stub; others are UNIMPLEMENTED
    server = aio.server()
    report_service_pb2_grpc.add_ReportServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with stagecast.AsyncClient(f"127.0.0.1:{port}") as client:
        yield servicer, client
    await server.stop(0)


async def test_call_is_retried_while_the_server_is_unavailable(
    unavailable_twice: tuple[UnavailableTwice, stagecast.AsyncClient],
) -> None:
    servicer, client = unavailable_twice
    await client.seal_batch("letters", "first")
    assert servicer.calls == 3


def test_watch_is_back_within_a_second_of_the_server_without_a_busy_loop() -> None:
    """However long the server was away: the channel reconnects as often as calls are tried."""
    endpoint = Endpoint("127.0.0.1:1")
    endpoint.reached = True
    away = aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata())
    retries = Retries(endpoint, 600.0)
    pauses = [retries.pause_s(away) for _ in range(1_000)]
    assert all(pause_s is not None and 0.05 <= pause_s < 1 for pause_s in pauses)
    assert len(set(pauses)) > 900, "clients do not come back all at once"
    assert sum(map(float, pauses[10:])) / 990 > 0.4, "two tries a second"  # type: ignore[arg-type]
    assert 100 <= int(dict(endpoint.options)["grpc.max_reconnect_backoff_ms"]) < 1_000


def test_backoff_leaves_the_numbers_of_a_seeded_program_alone() -> None:
    random.seed(7)
    expected = random.random()
    random.seed(7)
    for _ in range(10):
        Backoff().next_pause_s(None)
    assert random.random() == expected

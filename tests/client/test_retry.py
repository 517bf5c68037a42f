"""A call is repeated while that makes sense, and not longer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

from stagecast.client import Client
from stagecast.client.retry import call
from stagecast.v1 import report_service_pb2 as pb
from stagecast.v1 import report_service_pb2_grpc


class AwayTwice(report_service_pb2_grpc.ReportServiceServicer):
    """A server that is not available twice, and says when it will be."""

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
                "away",
                trailing_metadata=(("grpc-status-details-bin", details),),
            )
        return pb.SealBatchResponse()


@pytest.fixture
async def away_twice() -> AsyncIterator[tuple[AwayTwice, Client]]:
    servicer = AwayTwice()  # type: ignore[abstract]  # in its stub; by itself it answers UNIMPLEMENTED
    server = aio.server()
    report_service_pb2_grpc.add_ReportServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Client(f"127.0.0.1:{port}") as client:
        yield servicer, client
    await server.stop(0)


async def test_a_call_is_repeated_while_the_server_is_away(
    away_twice: tuple[AwayTwice, Client],
) -> None:
    servicer, client = away_twice
    await call(client.reports.SealBatch, pb.SealBatchRequest())
    assert servicer.calls == 3


async def test_a_call_without_patience_is_made_once(away_twice: tuple[AwayTwice, Client]) -> None:
    servicer, client = away_twice
    with pytest.raises(aio.AioRpcError, match="away"):
        await call(client.reports.SealBatch, pb.SealBatchRequest(), timeout_s=0)
    assert servicer.calls == 1


async def test_a_refused_call_is_not_repeated(client: Client, dataset_id: str) -> None:
    request = pb.SealBatchRequest(dataset_id=dataset_id, batch_id="missing")
    with pytest.raises(aio.AioRpcError) as refused:
        await call(client.reports.SealBatch, request)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND

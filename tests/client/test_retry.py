"""Calls are retried only while that makes sense."""

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

from stagecast.client import Stubs
from stagecast.client.retry import call
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
async def unavailable_twice() -> AsyncIterator[tuple[UnavailableTwice, Stubs]]:
    servicer = UnavailableTwice()  # type: ignore[abstract]  # in its stub; others are UNIMPLEMENTED
    server = aio.server()
    report_service_pb2_grpc.add_ReportServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Stubs(f"127.0.0.1:{port}") as client:
        yield servicer, client
    await server.stop(0)


async def test_call_is_retried_while_the_server_is_unavailable(
    unavailable_twice: tuple[UnavailableTwice, Stubs],
) -> None:
    servicer, client = unavailable_twice
    await call(client.reports.SealBatch, pb.SealBatchRequest())
    assert servicer.calls == 3


async def test_call_with_a_timeout_of_0_is_made_once(
    unavailable_twice: tuple[UnavailableTwice, Stubs],
) -> None:
    servicer, client = unavailable_twice
    with pytest.raises(aio.AioRpcError, match="unavailable for now"):
        await call(client.reports.SealBatch, pb.SealBatchRequest(), timeout_s=0)
    assert servicer.calls == 1


async def test_refused_call_is_not_retried(client: Stubs, dataset_id: str) -> None:
    request = pb.SealBatchRequest(dataset_id=dataset_id, batch_id="missing")
    with pytest.raises(aio.AioRpcError) as refused:
        await call(client.reports.SealBatch, request)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND

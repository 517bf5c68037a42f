"""A connection to a stagecast server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Self

from grpc import aio

from stagecast.client.watch import watch_batch
from stagecast.config import is_loopback
from stagecast.v1 import status_service_pb2 as pb
from stagecast.v1.control_service_pb2_grpc import ControlServiceStub
from stagecast.v1.report_service_pb2_grpc import ReportServiceStub
from stagecast.v1.status_service_pb2_grpc import StatusServiceStub

_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A server that is back is noticed within seconds, however long it was away.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class Client:
    """The stubs of the services on one channel, and a watch that survives reconnects.

    Use it in an `async with` block.

    Args:
        address: `HOST:PORT` of the server's gRPC.

    Attributes:
        reports: the stub of `ReportService`.
        status: the stub of `StatusService`.
        controls: the stub of `ControlService`.
    """

    def __init__(self, address: str) -> None:
        # Not even to this machine would grpc go past the proxy that the environment names.
        proxy = (("grpc.enable_http_proxy", 0),) if _is_local(address) else ()
        self._channel = aio.insecure_channel(address, options=(*_OPTIONS, *proxy))
        self.reports = ReportServiceStub(self._channel)
        self.status = StatusServiceStub(self._channel)
        self.controls = ControlServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    def watch(
        self, request: pb.WatchBatchRequest, *, give_up_after_s: float = 600.0
    ) -> AsyncGenerator[pb.WatchBatchResponse]:
        """Yield the messages of a watch, each with a token, across reconnects; see `watch_batch`.

        It gives up when the server was away for so long; the first connection is tried once.
        """
        return watch_batch(self.status, request, give_up_after_s=give_up_after_s)


def _is_local(address: str) -> bool:
    try:
        return is_loopback(address)
    except ValueError:  # whatever else grpc takes for a target
        return False

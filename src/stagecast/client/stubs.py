"""A connection to a stagecast server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Self, Unpack, cast

from grpc import aio

from stagecast.client.async_watch import watch_batch
from stagecast.client.channel import LazyChannel
from stagecast.client.endpoint import Endpoint, EndpointOptions
from stagecast.client.retry import Retries
from stagecast.v1 import status_service_pb2 as pb
from stagecast.v1.control_service_pb2_grpc import ControlServiceStub
from stagecast.v1.report_service_pb2_grpc import ReportServiceStub
from stagecast.v1.status_service_pb2_grpc import StatusServiceStub


def _nothing() -> None:
    pass


class Stubs:
    """The stubs of the services on one channel, and a watch that reconnects.

    Use it in an `async with` block; it may be created before there is an event loop.

    It takes the arguments of an `Endpoint`, and raises its errors.

    Attributes:
        reports: the stub of `ReportService`.
        status: the stub of `StatusService`.
        controls: the stub of `ControlService`.
    """

    def __init__(self, address: str, **options: Unpack[EndpointOptions]) -> None:
        self._endpoint = Endpoint(address, **options)
        self._channel = LazyChannel(self._endpoint)
        channel = cast("aio.Channel", self._channel)  # it has what stubs use
        self.reports = ReportServiceStub(channel)
        self.status = StatusServiceStub(channel)
        self.controls = ControlServiceStub(channel)

    async def __aenter__(self) -> Self:
        self._channel.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    def watch(
        self,
        request: pb.WatchBatchRequest,
        *,
        give_up_after_s: float = 600.0,
        on_lost: Callable[[], None] = _nothing,
    ) -> AsyncGenerator[pb.WatchBatchResponse]:
        """Yield the messages of a watch across reconnects, each with a token; see `watch_batch`.

        Args:
            request: what to watch.
            give_up_after_s: how long to try to reconnect before the error is raised; a server that
                this client has never reached is tried only once.
            on_lost: called when a connection is lost and the first reconnect has failed.
        """
        retries = Retries(self._endpoint, give_up_after_s, on_lost=on_lost)
        return watch_batch(self._channel, request, retries)

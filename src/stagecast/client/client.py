"""A connection to a stagecast server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Self, cast

from grpc import aio

from stagecast.client.channel import LazyChannel
from stagecast.client.watch import watch_batch
from stagecast.v1 import status_service_pb2 as pb
from stagecast.v1.control_service_pb2_grpc import ControlServiceStub
from stagecast.v1.report_service_pb2_grpc import ReportServiceStub
from stagecast.v1.status_service_pb2_grpc import StatusServiceStub


def _nothing() -> None:
    pass


class Client:
    """The stubs of the services on one channel, and a watch that survives reconnects.

    Use it in an `async with` block; it may be made before there is an event loop.

    Args:
        address: `HOST:PORT` of the server's gRPC, or `unix:PATH`.
        key: what the server asks for: a key, or a signed token.
        tls: whether to speak TLS; by itself it trusts whom the system trusts.
        ca: a file of certificates to trust instead, in PEM; means TLS.
        cert, cert_key: files of the client's own certificate and its private key, in PEM; mean TLS.
        timeout_s: how long a call other than a watch may take, unless it names a `timeout` itself;
            for ever if left out. Beyond it a call fails with `DEADLINE_EXCEEDED`.

    Attributes:
        reports: the stub of `ReportService`.
        status: the stub of `StatusService`.
        controls: the stub of `ControlService`.

    Raises:
        ValueError: a file cannot be read or holds no certificate or no key, only one of `cert` and
            `cert_key` is given, `key` cannot be one, or `address` is malformed.
    """

    def __init__(
        self,
        address: str,
        *,
        key: str | None = None,
        tls: bool = False,
        ca: Path | None = None,
        cert: Path | None = None,
        cert_key: Path | None = None,
        timeout_s: float | None = None,
    ) -> None:
        if (cert is None) != (cert_key is None):
            raise ValueError("a client certificate and its key go together")
        self._channel = LazyChannel(
            address,
            key=key,
            tls=tls,
            ca=ca,
            cert=cert,
            cert_key=cert_key,
            timeout_s=timeout_s,
        )
        channel = cast("aio.Channel", self._channel)  # as far as stubs are concerned
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
        """Yield the messages of a watch, each with a token, across reconnects; see `watch_batch`.

        It gives up when the server was away for so long; the first connection is tried once.
        `on_lost` is called when a connection is lost and could not be made again at once.
        """
        return watch_batch(self.status, request, give_up_after_s=give_up_after_s, on_lost=on_lost)

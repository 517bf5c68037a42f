"""The gRPC server: our services, health, and both versions of reflection."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from stagecast.errors import StartError
from stagecast.queries import Queries
from stagecast.reports import Reports
from stagecast.rpc.errors import ErrorInterceptor
from stagecast.rpc.report_service import ReportServicer
from stagecast.rpc.status_service import StatusServicer
from stagecast.v1 import (
    control_service_pb2,
    control_service_pb2_grpc,
    report_service_pb2,
    report_service_pb2_grpc,
    status_service_pb2,
    status_service_pb2_grpc,
)
from stagecast.watches import Watches

_SERVICES = tuple(
    service.full_name
    for file in (status_service_pb2, report_service_pb2, control_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"

_OPTIONS = (
    # Two servers on one port would share its connections without a word.
    ("grpc.so_reuseport", 0),
    # A dead peer is noticed, and a peer that asks us is not sent away for it.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A burst of new watches waits instead of being lost.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 40_000),
)


class RpcServer:
    """Serves gRPC on the running event loop.

    Args:
        address: `HOST:PORT` to listen on; port 0 picks a free one.
    """

    def __init__(
        self, address: str, *, reports: Reports, queries: Queries, watches: Watches
    ) -> None:
        self.address = address
        self._server = aio.server(interceptors=[ErrorInterceptor()], options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        report_service_pb2_grpc.add_ReportServiceServicer_to_server(
            ReportServicer(reports),  # type: ignore[abstract]  # some RPCs are not implemented yet
            self._server,
        )
        status_service_pb2_grpc.add_StatusServiceServicer_to_server(
            StatusServicer(queries, watches),  # type: ignore[abstract]  # as above
            self._server,
        )
        control_service_pb2_grpc.add_ControlServiceServicer_to_server(
            control_service_pb2_grpc.ControlServiceServicer(),  # type: ignore[abstract]  # as above
            self._server,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        _add_reflection(self._server)

    async def start(self) -> None:
        """Listen; `address` has the real port afterwards.

        Raises:
            StartError: the address is malformed, or taken.
        """
        try:
            port = self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise StartError(f"cannot listen for gRPC on {self.address}: {error}") from error
        self.address = f"{self.address.rpartition(':')[0]}:{port}"
        await self._server.start()

    async def set_serving(self, serving: bool) -> None:
        """Tell health checks, overall and for each service."""
        status = health_pb2.HealthCheckResponse
        now = status.SERVING if serving else status.NOT_SERVING
        for service in ("", *_SERVICES):
            await self._health.set(service, now)

    async def drain(self) -> None:
        """Tell health checks that the server is about to stop, for good."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, and give those under way so many seconds."""
        await self._server.stop(grace_s)


class _Pool:
    """The descriptors of this process, which also finds the file of an RPC by its full name.

    Python's own pool knows files by messages, enums and services only, and people describe RPCs.
    """

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - protobuf's name
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, _ = symbol.rpartition(".")
            return self._pool.FindServiceByName(service).file  # KeyError if it is none

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the pool has
        return getattr(self._pool, name)


def _add_reflection(server: aio.Server) -> None:
    """Serve reflection as v1alpha, and under the name of v1, whose messages are the same."""
    v1alpha = reflection.SERVICE_NAME
    names = (*_SERVICES, health.SERVICE_NAME, v1alpha, _REFLECTION_V1)
    servicer = reflection.aio.ReflectionServicer(names, pool=_Pool())
    handlers: dict[str, Any] = {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
    }
    for name in (v1alpha, _REFLECTION_V1):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))

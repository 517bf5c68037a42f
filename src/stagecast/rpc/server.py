"""The gRPC server: our services, health, and both versions of reflection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from stagecast.auth import Authenticator
from stagecast.config import Config, socket_path, split_address
from stagecast.errors import StartError
from stagecast.listening import SocketFile, listen_once, reporting_listen_errors
from stagecast.rpc.aio_server import make_server
from stagecast.rpc.control_service import ControlServicer
from stagecast.rpc.health import HealthServicer
from stagecast.rpc.http import RpcOverHttp
from stagecast.rpc.pipeline import Pipeline
from stagecast.rpc.reflection import add_reflection
from stagecast.rpc.report_service import ReportServicer
from stagecast.rpc.status_service import StatusServicer
from stagecast.service.controls import Controls
from stagecast.service.heartbeats import Heartbeats
from stagecast.service.queries import Queries
from stagecast.service.reports import Reports
from stagecast.service.submissions import Submissions
from stagecast.tls import Tls
from stagecast.v1 import (
    control_service_pb2,
    control_service_pb2_grpc,
    report_service_pb2,
    report_service_pb2_grpc,
    status_service_pb2,
    status_service_pb2_grpc,
)
from stagecast.watches import BatchWatches, DatasetWatches, Waits

_SERVICES = tuple(
    service.full_name
    for file in (status_service_pb2, report_service_pb2, control_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)

_HANG_UP_S = 0.5

_OPTIONS = (
    # Connections of clients that send keepalive pings are not closed for it.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A burst of new watches is queued, not refused.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 40_000),
)


def _grpc_limits(config: Config) -> Iterator[tuple[str, int]]:
    """Yield the limits that grpc itself enforces."""
    yield "grpc.keepalive_time_ms", _ms(config.keepalive_s)
    # Without the second, grpc waits a minute for the answer to a ping, whatever the first is.
    yield "grpc.keepalive_timeout_ms", _ms(config.keepalive_timeout_s)
    yield "grpc.http2.ping_timeout_ms", _ms(config.keepalive_timeout_s)
    # A connection with an open watch is not idle.
    yield "grpc.max_connection_idle_ms", _ms(config.http_idle_s)
    # Without it, a connection that never starts HTTP/2 or TLS stays open for two minutes.
    yield "grpc.server_handshake_timeout_ms", _ms(config.request_s)
    yield "grpc.max_receive_message_length", config.max_message_bytes
    # Between the soft and the hard limit grpc refuses some calls; if they are equal, none.
    yield "grpc.max_metadata_size", config.max_header_bytes
    yield "grpc.absolute_max_metadata_size", config.max_header_bytes
    yield "grpc.max_allowed_incoming_connections", config.max_connections
    # Of a connection. grpc holds ended calls until the client reads their status, so there must be
    # a limit; calls beyond it get no reason, so it is above the limits that give one.
    yield "grpc.max_concurrent_streams", config.max_watches + config.max_waiting_calls


def _ms(seconds: float) -> int:
    """Return milliseconds; at least one, since at zero grpc times out at once."""
    return max(1, round(seconds * 1_000))


class RpcServer:
    """Serves gRPC on the running event loop.

    Attributes:
        address: the listening address, with the real port after the start.
        over_http: serves the same RPCs, for the HTTP server.

    Args:
        config: the address to listen on, and the limits.
    """

    def __init__(
        self,
        config: Config,
        *,
        tls: Tls | None,
        authenticator: Authenticator,
        submissions: Submissions,
        reports: Reports,
        heartbeats: Heartbeats,
        controls: Controls,
        queries: Queries,
        batch_watches: BatchWatches,
        dataset_watches: DatasetWatches,
        waits: Waits,
    ) -> None:
        self.address = config.grpc
        self._client_ca_pem = tls.client_ca_pem if tls else None
        self._certificate = self._served = self._certificate_of(tls) if tls else None
        self._share_port = config.share_ports
        self._file: SocketFile | None = None
        self._linger_s = config.linger_s
        # By default, two servers on one port would share its connections silently.
        options = (*_OPTIONS, *_grpc_limits(config), ("grpc.so_reuseport", int(config.share_ports)))
        self._server = make_server(options)
        self._pipeline = Pipeline(self._server, config, authenticator)
        self._health = HealthServicer(_SERVICES, watch_life_s=config.watch_life_s)
        self._add_services(
            ReportServicer(submissions, reports, heartbeats),
            StatusServicer(queries, batch_watches, dataset_watches, waits, self._pipeline.writer),
            ControlServicer(controls),
        )
        self.over_http = RpcOverHttp(
            self._pipeline.runs,
            max_bytes=config.max_message_bytes,
            needs_credentials=authenticator.needs_credentials,
            origins=config.cors_origins,
        )

    @property
    def open_watches(self) -> int:
        """The number of open watches."""
        return self._pipeline.watches.watches

    async def start(self) -> None:
        """Listen; `address` has the real port afterwards.

        Raises:
            StartError: the address is malformed, or in use.
        """
        with reporting_listen_errors("gRPC", self.address):
            path = socket_path(self.address)
            if path is None:
                await self._start_on_port()
            else:
                await self._start_on_file(SocketFile(path))

    async def _start_on_port(self) -> None:
        # grpc accepts malformed addresses: `127.0.0.1` as port 443, `:99999` as any port.
        split_address(self.address)
        try:
            port = self._add_port(self.address)
        except StartError:
            listen_once(self.address, share_port=self._share_port)
            raise
        self.address = f"{self.address.rpartition(':')[0]}:{port}"
        await self._server.start()

    async def _start_on_file(self, file: SocketFile) -> None:
        file.check()
        self._pipeline.unread.socket_name = str(file.draft)
        self._add_port(f"unix:{quote(str(file.draft))}")
        await self._server.start()
        file.publish()
        self._file, self.address = file, f"unix:{file.path}"

    def _add_services(
        self, reports: ReportServicer, status: StatusServicer, controls: ControlServicer
    ) -> None:
        server: Any = self._pipeline  # for generated code
        report_service_pb2_grpc.add_ReportServiceServicer_to_server(reports, server)
        status_service_pb2_grpc.add_StatusServiceServicer_to_server(status, server)
        control_service_pb2_grpc.add_ControlServiceServicer_to_server(controls, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        add_reflection(server, (*_SERVICES, health.SERVICE_NAME))

    def _add_port(self, address: str) -> int:
        """Make grpc listen; return the real port.

        Raises:
            StartError: it refuses, without a reason.
        """
        try:
            if self._certificate is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, self._credentials(self._certificate))
        except RuntimeError as error:
            raise StartError(
                f"cannot listen for gRPC on {self.address}: grpc gives no reason"
            ) from error

    def _credentials(
        self, certificate: grpc.ServerCertificateConfiguration
    ) -> grpc.ServerCredentials:
        return grpc.dynamic_ssl_server_credentials(
            certificate,
            self._renewed,  # type: ignore[arg-type]  # may return None, as grpc's own manual says
            require_client_authentication=self._client_ca_pem is not None,
        )

    def renew(self, tls: Tls) -> None:
        """Use another certificate for new connections."""
        self._certificate = self._certificate_of(tls)

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the certificate if it has changed since the last call.

        gRPC calls this before each handshake, on its own threads; if two calls race, an older
        certificate is replaced at the next handshake.
        """
        newest = self._certificate
        if newest is self._served:
            return None
        self._served = newest
        return newest

    def _certificate_of(self, tls: Tls) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(tls.key_pem, tls.cert_pem)], root_certificates=self._client_ca_pem
        )

    def set_serving(self, serving: bool) -> None:
        """Set the health status of the server and of each service."""
        self._health.set_serving(serving)

    def drain(self) -> None:
        """Refuse new calls with `DRAINING`, and fail health checks, for good."""
        self._pipeline.drain()
        self._health.drain()

    async def stop(self, grace_s: float) -> None:
        """Give running calls `grace_s` seconds, then close every connection.

        Calls that have not ended by then, and those that just arrive, get `DRAINING` first: grpc
        itself would end them without a reason.
        """
        await self._pipeline.finish(grace_s)
        await asyncio.sleep(self._linger_s)
        # With no time at all, grpc would close connections in a way that clients log as an error.
        await self._server.stop(_HANG_UP_S)
        if self._file:
            self._file.remove()

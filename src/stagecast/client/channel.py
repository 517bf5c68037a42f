"""The channel of a client: plaintext or TLS, with a key in the metadata of every call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
from grpc import aio

from stagecast.certificates import read_certificates, read_pair
from stagecast.client.decoding import UnaryCall, decoding_to_none
from stagecast.config import check_address, is_loopback, socket_path
from stagecast.errors import StartError

_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Reconnect within seconds, however long the server was unavailable.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class LazyChannel:
    """A channel for stubs that connects on the first call.

    A grpc channel belongs to the event loop that runs when it is created. So there is one per loop,
    created on the first call.

    Args:
        address: `HOST:PORT`, or `unix:PATH`.
        key: sent with every call; surrounding whitespace is ignored.
        timeout_s: the default timeout of unary calls.

    Raises:
        ValueError: the address or the key is invalid, or a file cannot be read or does not contain
            a certificate or key.
    """

    def __init__(
        self,
        address: str,
        *,
        key: str | None,
        tls: bool,
        ca: Path | None,
        cert: Path | None,
        cert_key: Path | None,
        timeout_s: float | None,
    ) -> None:
        self._timeout_s = timeout_s
        self._target = _target_of(check_address(address, to_call=True))
        # grpc would use the proxy of the environment even for loopback addresses.
        proxy = (("grpc.enable_http_proxy", 0),) if is_loopback(address) else ()
        # A certificate cannot name the path of a socket.
        host = (("grpc.ssl_target_name_override", "localhost"),) if socket_path(address) else ()
        self._options = (*_OPTIONS, *proxy, *host)
        self._credentials = _credentials(ca, cert, cert_key) if tls or ca or cert else None
        # Interceptors would wrap every call and message, and grpc sends call credentials only
        # over TLS.
        self._metadata = _metadata(key.strip()) if key else ()
        self._channels: dict[asyncio.AbstractEventLoop, aio.Channel] = {}

    def unary_unary(self, *method: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401 - as grpc has it
        """Return a unary call."""
        options = decoding_to_none(options)
        call = self._calling(lambda channel: channel.unary_unary(*method, **options))
        limit = {"timeout": self._timeout_s}
        return lambda *request, **options: UnaryCall(call(*request, **limit | options))

    def unary_stream(self, *method: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401 - as grpc has it
        """Return a server-streaming call; a message that cannot be decoded is `None`."""
        options = decoding_to_none(options)
        return self._calling(lambda channel: channel.unary_stream(*method, **options))

    def open(self) -> None:
        """Create the channel of the running loop, unless it has an open one."""
        loop = asyncio.get_running_loop()
        # Channels of closed loops cannot be used any more.
        self._channels = {
            other: channel for other, channel in self._channels.items() if not other.is_closed()
        }
        channel = self._channels.get(loop)
        if channel is None or channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN:
            self._channels[loop] = self._make()

    async def close(self) -> None:
        """Close the channel of the running loop; later calls on it fail."""
        await self._current().close()

    def _calling(self, on: Callable[[aio.Channel], Callable[..., Any]]) -> Callable[..., Any]:
        def call(request: Any, *, metadata: Any = (), **options: Any) -> Any:  # noqa: ANN401 - as grpc has it
            rpc = on(self._current())
            return rpc(request, metadata=(*(metadata or ()), *self._metadata), **options)

        return call

    def _current(self) -> aio.Channel:
        """Return the channel of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._channels:
            self.open()
        return self._channels[loop]

    def _make(self) -> aio.Channel:
        if self._credentials is None:
            return aio.insecure_channel(self._target, options=self._options)
        return aio.secure_channel(self._target, self._credentials, options=self._options)


def _target_of(address: str) -> str:
    """Return the grpc target; grpc itself would read `dns:50051` as the host `50051`."""
    path = socket_path(address)
    return f"dns:///{quote(address, safe='[]:')}" if path is None else f"unix:{quote(path)}"


def _credentials(
    ca: Path | None, cert: Path | None, cert_key: Path | None
) -> grpc.ChannelCredentials:
    try:
        roots = b"".join(read_certificates(ca)) if ca else None
        certificate, private_key = read_pair(cert, cert_key) if cert and cert_key else (None, None)
    except StartError as error:
        raise ValueError(str(error)) from error
    return grpc.ssl_channel_credentials(roots, private_key, certificate)


def _metadata(key: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata with a key.

    Raises:
        ValueError: the key has characters that a header cannot have.
    """
    if not (key.isascii() and key.isprintable()):
        raise ValueError("invalid key: only printable ASCII characters are allowed")
    return (("authorization", f"Bearer {key}"),) if key else ()

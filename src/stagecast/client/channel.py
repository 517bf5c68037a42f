"""The channel of a client: plain or TLS, and the key that every call on it bears."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
from grpc import aio

from stagecast.certificates import read_certificates, read_pair
from stagecast.client.decoding import UnaryCall, quietly_decoding
from stagecast.config import check_address, is_loopback, socket_path
from stagecast.errors import StartError

_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A server that is back is noticed within seconds, however long it was away.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class LazyChannel:
    """What stubs need of a channel, which is made on the loop that first calls on it.

    A channel of grpc belongs to the loop that runs when it is made. So there is one for each loop,
    and none before a call.

    Args:
        address: `HOST:PORT`, or `unix:PATH`.
        key: what calls bear, as it stands in a file or not.
        timeout_s: how long a call with one answer may take if it does not say.

    Raises:
        ValueError: the address is malformed, the key is none, or a file cannot be read or does not
            hold what it should; or only one of a certificate and its key is given.
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
        # Not even to this machine would grpc go past the proxy that the environment names.
        proxy = (("grpc.enable_http_proxy", 0),) if is_loopback(address) else ()
        # The path of a socket is no host that a certificate could be for.
        host = (("grpc.ssl_target_name_override", "localhost"),) if socket_path(address) else ()
        self._options = (*_OPTIONS, *proxy, *host)
        self._credentials = _credentials(ca, cert, cert_key) if tls or ca or cert else None
        # Interceptors would do it too, and wrap every call and message; nor does grpc let
        # credentials of a call go over a channel without TLS.
        self._metadata = _metadata(key.strip()) if key else ()
        self._channels: dict[asyncio.AbstractEventLoop, aio.Channel] = {}

    def unary_unary(self, *method: Any, **how: Any) -> Callable[..., Any]:  # noqa: ANN401 - as grpc has it
        """Return what makes a call with one answer."""
        how = quietly_decoding(how)
        call = self._calling(lambda channel: channel.unary_unary(*method, **how))
        limit = {"timeout": self._timeout_s}
        return lambda *request, **how: UnaryCall(call(*request, **limit | how))

    def unary_stream(self, *method: Any, **how: Any) -> Callable[..., Any]:  # noqa: ANN401 - as grpc has it
        """Return what makes a call with a stream of answers; one that is malformed is `None`."""
        how = quietly_decoding(how)
        return self._calling(lambda channel: channel.unary_stream(*method, **how))

    def open(self) -> None:
        """Make a channel on the running loop, unless there is one that is not closed."""
        loop = asyncio.get_running_loop()
        # What belonged to a loop that has ended is of no use to anybody.
        self._channels = {
            other: channel for other, channel in self._channels.items() if not other.is_closed()
        }
        channel = self._channels.get(loop)
        if channel is None or channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN:
            self._channels[loop] = self._make()

    async def close(self) -> None:
        """Close the channel of the running loop; calls on that fail from then on."""
        await self._running().close()

    def _calling(self, on: Callable[[aio.Channel], Callable[..., Any]]) -> Callable[..., Any]:
        def call(request: Any, *, metadata: Any = (), **how: Any) -> Any:  # noqa: ANN401 - as grpc has it
            rpc = on(self._running())
            return rpc(request, metadata=(*(metadata or ()), *self._metadata), **how)

        return call

    def _running(self) -> aio.Channel:
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
    """Return what grpc calls an address; by itself it would take `dns:50051` for a host `50051`."""
    path = socket_path(address)
    return f"dns:///{quote(address, safe='[]:')}" if path is None else f"unix:{quote(path)}"


def _credentials(
    ca: Path | None, cert: Path | None, cert_key: Path | None
) -> grpc.ChannelCredentials:
    try:
        roots = b"".join(read_certificates(ca)) if ca else None
        shown, private = read_pair(cert, cert_key) if cert and cert_key else (None, None)
    except StartError as error:
        raise ValueError(str(error)) from error
    return grpc.ssl_channel_credentials(roots, private, shown)


def _metadata(key: str) -> tuple[tuple[str, str], ...]:
    """Return what bears a key.

    Raises:
        ValueError: it is no key, and no header could bear it.
    """
    if not (key.isascii() and key.isprintable()):
        raise ValueError("a key has printable ASCII characters only")
    return (("authorization", f"Bearer {key}"),) if key else ()

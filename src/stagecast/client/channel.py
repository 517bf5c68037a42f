"""The channel of a client: plain or TLS, and the key that every call on it bears."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import grpc
from grpc import aio

from stagecast.config import is_loopback

_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A server that is back is noticed within seconds, however long it was away.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


def open_channel(
    address: str, *, tls: bool, ca: Path | None, cert: Path | None, cert_key: Path | None
) -> aio.Channel:
    """Return a channel; a certificate of either side means TLS.

    Raises:
        OSError: a file cannot be read.
        ValueError: only one of a certificate and its key is given.
    """
    # Not even to this machine would grpc go past the proxy that the environment names.
    proxy = (("grpc.enable_http_proxy", 0),) if _is_local(address) else ()
    options = (*_OPTIONS, *proxy)
    if (cert is None) != (cert_key is None):
        raise ValueError("a client certificate and its key go together")
    if not (tls or ca or cert):
        return aio.insecure_channel(address, options=options)
    credentials = grpc.ssl_channel_credentials(*(_content(path) for path in (ca, cert_key, cert)))
    return aio.secure_channel(address, credentials, options=options)


def bearing(channel: aio.Channel, key: str) -> aio.Channel:
    """Return the channel as stubs see it, whose calls bear a key, as it stands in a file or not.

    Raises:
        ValueError: it is no key, and no header could bear it.
    """
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("a key has printable ASCII characters only")
    # Interceptors would do it too, and wrap every call and message; nor does grpc let credentials
    # of a call go over a channel without TLS.
    return cast("aio.Channel", _Bearing(channel, (("authorization", f"Bearer {key}"),)))


class _Bearing:
    """What stubs need of a channel."""

    def __init__(self, channel: aio.Channel, metadata: Sequence[tuple[str, str]]) -> None:
        self._channel = channel
        self._metadata = metadata

    def unary_unary(self, *method: Any, **how: Any) -> Callable[..., Any]:  # noqa: ANN401 - as grpc has it
        return self._adding(self._channel.unary_unary(*method, **how))

    def unary_stream(self, *method: Any, **how: Any) -> Callable[..., Any]:  # noqa: ANN401 - as grpc has it
        return self._adding(self._channel.unary_stream(*method, **how))

    def _adding(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def bearing_call(request: Any, *, metadata: Any = (), **how: Any) -> Any:  # noqa: ANN401 - as grpc has it
            return call(request, metadata=(*(metadata or ()), *self._metadata), **how)

        return bearing_call


def _content(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _is_local(address: str) -> bool:
    try:
        return is_loopback(address)
    except ValueError:  # whatever else grpc takes for a target
        return False

"""Where a client connects to, and how: address, key, TLS, from arguments or the environment."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict, TypeVar
from urllib.parse import quote

import grpc

from stagecast.client.arguments import Span, flag_of, refusal, seconds_of, text_of
from stagecast.config import Config, check_address, is_loopback, socket_path

T = TypeVar("T")

_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Reconnect within a second, however long the server was unavailable.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Otherwise a new client would share the connection of an older one, and fail while that waits
    # to reconnect, although the server is back.
    ("grpc.use_local_subchannel_pool", 1),
)
_YES = {"1": True, "true": True, "yes": True, "on": True, "t": True, "y": True}
_NO = {"0": False, "false": False, "no": False, "off": False, "f": False, "n": False}
_TIMEOUT_S = 60.0


class EndpointOptions(TypedDict, total=False):
    """The options of an `Endpoint`."""

    key: str | None
    tls: bool
    ca: Path | None
    cert: Path | None
    cert_key: Path | None
    timeout_s: float | None


class Endpoint:
    """A server, as clients call it.

    Args:
        address: `HOST:PORT`, or `unix:PATH`.
        key: sent with every call; surrounding whitespace is ignored.
        tls: whether to use TLS; implied by `ca` and `cert`.
        ca, cert, cert_key: PEM files.
        timeout_s: the default timeout of unary calls; `None` for no limit.

    Attributes:
        reached: whether the server has ever answered.

    Raises:
        ValueError: the address or the key is invalid, a file cannot be read or does not contain a
            certificate or key, or only one of `cert` and `cert_key` is given.
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
            raise ValueError("give both a client certificate and its private key, or neither")
        self.address = address
        self.timeout_s = timeout_s
        self.tls = bool(tls or ca or cert)
        self.reached = False
        self.target = _target_of(check_address(address, to_call=True))
        # grpc would use the proxy of the environment even for loopback addresses.
        proxy = (("grpc.enable_http_proxy", 0),) if is_loopback(address) else ()
        # A certificate cannot name the path of a socket.
        host = (("grpc.ssl_target_name_override", "localhost"),) if socket_path(address) else ()
        self.options = (*_OPTIONS, *proxy, *host)
        self.credentials = _credentials(ca, cert, cert_key) if self.tls else None
        # Interceptors would wrap every call and message, and grpc sends call credentials only
        # over TLS.
        self.metadata = _metadata(key.strip()) if key else ()

    def __repr__(self) -> str:
        return f"{self.address!r}{', tls=True' if self.tls else ''}"


def find_endpoint(
    address: str | None,
    *,
    key: str | None,
    tls: bool | None,
    ca: str | os.PathLike[str] | None,
    cert: str | os.PathLike[str] | None,
    cert_key: str | os.PathLike[str] | None,
    timeout: Span | None,
) -> Endpoint:
    """Return the endpoint for arguments, each by default from its `STAGECAST_…` variable.

    An empty key or path means none, even if the variable is set.

    Raises:
        TypeError: a value has a wrong type.
        ValueError: a value is invalid, see `Endpoint`.
    """
    if address is not None:
        text_of("address", address, "a text such as '127.0.0.1:50051'")
    if key is not None and not isinstance(key, str):
        raise TypeError("invalid key; use a text")  # without its value: it may be a key, as bytes
    if tls is not None:
        flag_of("tls", tls)
    return Endpoint(
        _or_variable(address, "GRPC", str) or Config().grpc,
        key=_or_variable(key, "KEY", str),
        tls=bool(_or_variable(tls, "TLS", _flag)),
        ca=_file("ca", ca),
        cert=_file("cert", cert),
        cert_key=_file("cert_key", cert_key),
        timeout_s=_or_variable(_timeout_s(timeout), "TIMEOUT", _seconds) or _TIMEOUT_S,
    )


def _or_variable(argument: T | None, name: str, parse: Callable[[str], T]) -> T | None:
    """Return the argument, or else the variable; a blank variable counts as not set."""
    if argument is not None:
        return argument
    variable = f"STAGECAST_{name}"
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{variable}: {error}") from error


def _flag(text: str) -> bool:
    flag = (_YES | _NO).get(text.lower())
    if flag is None:
        raise ValueError(f"{text!r} is neither yes nor no; use 1 or 0")
    return flag


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ValueError(f"{text!r} is not a positive number of seconds")
    return seconds


def _timeout_s(timeout: Span | None) -> float | None:
    if timeout is None:
        return None
    timeout_s = seconds_of("timeout", timeout)
    if not 0 < timeout_s < math.inf:
        raise ValueError(refusal("timeout", timeout, "a time that is positive and finite"))
    return timeout_s


def _file(name: str, path: str | os.PathLike[str] | None) -> Path | None:
    if path is not None and not isinstance(path, str | os.PathLike):
        raise TypeError(refusal(name, path, "the path of a file"))
    known = _or_variable(None if path is None else os.fspath(path), name.upper(), str)
    return Path(known) if known else None


def _target_of(address: str) -> str:
    """Return the grpc target; grpc itself would read `dns:50051` as the host `50051`."""
    path = socket_path(address)
    return f"dns:///{quote(address, safe='[]:')}" if path is None else f"unix:{quote(path)}"


def _credentials(
    ca: Path | None, cert: Path | None, cert_key: Path | None
) -> grpc.ChannelCredentials:
    # Costs as much to import as gRPC, and most clients need no files.
    from stagecast.certificates import read_certificates, read_pair
    from stagecast.errors import StartError

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

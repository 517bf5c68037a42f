"""Settings of a server. The defaults are what `stagecast serve` uses."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from stagecast.escaping import is_printable, quote

_ORIGIN = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[^\s/:?#@\[\]*A-Z]+)(?::[0-9]{1,5})?", re.ASCII)
_ROOT_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*")
# Without what means something else to grpc: a scheme, a path, a list.
_ADDRESS = re.compile(r"(?:\[([^\s\[\]/]+)\]|([^\s:\[\]/?#@%,]+)):([0-9]{1,5})", re.ASCII)
_SOCKET = "unix:"
MAX_SOCKET_PATH = 107 if sys.platform == "linux" else 103  # bytes of the path of a unix socket
# `http://` or `dns:///` before an address, and a path behind it.
_PASTED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/+([^/?#]+)(?:[/?#].*)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Where to listen and what to keep to.

    Addresses are `HOST:PORT`, where port 0 picks a free one, or `unix:PATH`. Names that end in `_s`
    are seconds.
    """

    db: Path = Path("stagecast.db")
    grpc: str = "127.0.0.1:50051"
    http: str = "127.0.0.1:8000"
    # Whose pages a browser lets read the REST answers: origins such as `https://app.example.com`.
    cors_origins: tuple[str, ...] = ()
    # What a proxy has before all paths, such as `/stagecast`.
    http_root_path: str = ""
    # Files in PEM: the certificate of both faces and its private key; whose certificates clients
    # need to connect at all.
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    # How often the certificate and its key are looked at, whether they were renewed.
    tls_every_s: float = 5.0
    # A secret, or the public key of whoever signs tokens; and whom they have to be meant for.
    jwt_key: Path | None = None
    jwt_audience: str = "stagecast"
    # Whether to serve an address that others can reach although there is no key; once there is one,
    # it is asked for all the same.
    insecure: bool = False
    # Whether other processes may listen on the same ports (`SO_REUSEPORT`).
    share_ports: bool = False
    # How long `WaitBatch` waits if the call does not say: less than the minute after which proxies
    # hang up on a call that is silent.
    wait_s: float = 50.0
    # A watch ends after this, give or take a tenth, so that watches spread over servers again.
    watch_life_s: float = 3600.0
    # After a message, a watch gathers what follows for so long before it sends the next.
    watch_throttle_s: float = 0.005
    # How often documents are looked for that have been silent for too long.
    scan_every_s: float = 1.0
    # For how long the history of a batch is kept after its end, and how many transitions at most;
    # for how long the whole batch is. Without a number, for ever.
    retain_history_s: float | None = None
    retain_transitions: int | None = None
    retain_batches_s: float | None = None
    # How often what is not kept any more is looked for.
    retain_every_s: float = 60.0
    # A stream whose client has not taken a message for so long is ended; a connection on which the
    # answer of another call has not been taken for so long is closed.
    slow_reader_s: float = 60.0
    # A gRPC connection from which nothing came for so long is asked whether it lives, and closed if
    # it does not answer in time.
    keepalive_s: float = 60.0
    keepalive_timeout_s: float = 20.0
    # How many watches may be open at once, of one caller and in all; also waits for the end of a
    # batch, watches of health, and reflection. Who bears no key is told by the address.
    max_watches_per_caller: int = 10_000
    max_watches: int = 20_000
    # How many other calls may wait for the store at once, and with how many bytes of requests; also
    # how many gRPC requests may be on their way.
    max_waiting_calls: int = 5_000
    max_waiting_bytes: int = 64 << 20
    # How large a message may be that a client sends, the headers of a call or request, and a URL.
    max_message_bytes: int = 4 << 20
    max_header_bytes: int = 32 << 10
    max_url_bytes: int = 64 << 10
    # How long the whole of a request may take to arrive, of gRPC and of HTTP; then, how long the
    # store may take to answer it.
    request_s: float = 20.0
    # How long an HTTP connection may wait for its next request. Clients that poll every few seconds
    # keep theirs; with uvicorn's five seconds it would often be closed under their next request.
    # Also how long a gRPC connection may be without a call.
    http_idle_s: float = 75.0
    # How many connections may be open at once, of gRPC and of HTTP each.
    max_connections: int = 5_000
    # How often the store is asked whether it can be written.
    probe_every_s: float = 5.0
    # How often one of several processes tells its supervisor that it lives; one that has missed six
    # times in a row hangs, and is replaced.
    process_heartbeat_s: float = 5.0
    # How long a process that replaces another may take until it is ready. Those that start with the
    # service have all the time that an older file takes to be brought up to date; this one may find
    # such a file in the place of its own, and waits ten minutes for another that does so.
    replaced_within_s: float = 660.0
    # How long calls under way may go on after SIGTERM; and how long, when they have ended, calls
    # that are just arriving are still told why they are refused.
    drain_s: float = 5.0
    linger_s: float = 0.25


def split_address(address: str) -> tuple[str, int]:
    """Return the host, without the brackets of IPv6, and the port of `HOST:PORT`.

    Raises:
        ValueError: it is malformed.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[3]) > 65_535:
        raise ValueError(
            f"{quote(address)} is not HOST:PORT, such as 127.0.0.1:50051, with a port up to 65535, "
            f"or unix:PATH{_advice(address)}"
        )
    host = match[1] or match[2]
    try:
        host.encode("idna")  # as Python does before it asks the system
    except UnicodeError as error:
        raise ValueError(
            f"{quote(host)} is not a host name: each part between dots has 1 to 63 characters, "
            "of those that names may have"
        ) from error
    return host, int(match[3])


def _advice(address: str) -> str:
    pasted = _PASTED.fullmatch(address)
    if pasted and _ADDRESS.fullmatch(pasted[1]):
        return f"; type {pasted[1]}"
    return ""


def socket_path(address: str) -> str | None:
    """Return the path of the unix socket that is meant by `unix:PATH`, made absolute, if it is one.

    Raises:
        ValueError: there is no path, one that cannot be shown, or one that is too long.
    """
    if not address.startswith(_SOCKET):
        return None
    path = address.removeprefix(_SOCKET)
    if not (path and is_printable(path)):
        raise ValueError(f"{quote(address)} is not unix:PATH, with a path of printable characters")
    try:
        path = os.path.abspath(re.sub("^/+", "/", path))  # noqa: PTH100 - Path keeps the dots
    except FileNotFoundError as error:
        raise ValueError(
            f"no path of {quote(address)}: the current directory was deleted"
        ) from error
    if len(path.encode()) > MAX_SOCKET_PATH:
        raise ValueError(
            f"{quote(path)} is too long for a socket: {len(path.encode())} bytes of at most "
            f"{MAX_SOCKET_PATH}"
        )
    return path


def check_address(address: str, *, to_call: bool = False) -> str:
    """Return an address to listen on, or one to call, with the path of a socket made absolute.

    Raises:
        ValueError: it is malformed, or nobody can be called there.
    """
    path = socket_path(address)
    if path is not None:
        return _SOCKET + path
    _, port = split_address(address)
    if to_call and not port:
        raise ValueError(f"{quote(address)} has no real port; the server's ready line names it")
    return address


def is_loopback(address: str) -> bool:
    """Tell whether only this machine can reach an address.

    Raises:
        ValueError: it is malformed.
    """
    if socket_path(address) is not None:
        return True
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name that may lead anywhere
        return False


def check_origin(origin: str) -> str:
    """Return an origin as browsers send it: scheme, host in lower case, port unless it is usual.

    Raises:
        ValueError: it is anything else, such as `*`, which browsers do not take with credentials.
    """
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(
            f"{quote(origin)} is no origin such as https://app.example.com or http://localhost:3000"
        )
    return origin


def check_root_path(root_path: str) -> str:
    """Return what a proxy has before all paths.

    Raises:
        ValueError: it is no path, or clients would change it before they ask.
    """
    segments = [unquote(segment) for segment in root_path.split("/")]
    changed = any(segment in (".", "..") or "/" in segment for segment in segments)
    if changed or not _ROOT_PATH.fullmatch(root_path):
        raise ValueError(
            f"{quote(root_path)} is not a path such as /stagecast: it begins with a slash, ends "
            "with none, and other characters than those of a URL are percent-encoded, but neither "
            "slashes nor the dots of . and .."
        )
    return root_path

"""Settings of a server. The defaults are those of `stagecast serve`."""

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
# Excludes what gRPC would read as a scheme, a path or a list.
_ADDRESS = re.compile(r"(?:\[([^\s\[\]/]+)\]|([^\s:\[\]/?#@%,]+)):([0-9]{1,5})", re.ASCII)
_SOCKET = "unix:"
MAX_SOCKET_PATH = 107 if sys.platform == "linux" else 103  # bytes of the path of a unix socket
# An address after `http://` or `dns:///`, with or without a path.
_PASTED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/+([^/?#]+)(?:[/?#].*)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Addresses, limits and timeouts of a server.

    Addresses are `HOST:PORT`, where port 0 picks a free one, or `unix:PATH`. Names that end in `_s`
    are seconds.
    """

    db: Path = Path("stagecast.db")
    grpc: str = "127.0.0.1:50051"
    http: str = "127.0.0.1:8000"
    # Origins whose pages may read the REST answers, such as `https://app.example.com`.
    cors_origins: tuple[str, ...] = ()
    # The path prefix of a proxy, such as `/stagecast`.
    http_root_path: str = ""
    # PEM files: the certificate of gRPC and HTTP, its private key, and the CA that has to have
    # signed the certificates of clients.
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    # How often the files of the certificate and its key are checked for a renewal.
    tls_every_s: float = 5.0
    # The file with the secret or public key that tokens are verified with, and their audience.
    jwt_key: Path | None = None
    jwt_audience: str = "stagecast"
    # Whether to serve other machines although no key exists; once one exists, it is required.
    insecure: bool = False
    # Whether other processes may listen on the same ports (`SO_REUSEPORT`).
    share_ports: bool = False
    # How long a `WaitBatch` without a timeout waits: less than the minute after which proxies close
    # a silent call.
    wait_s: float = 50.0
    # A watch ends after this, ± 10 %, so that watches spread over servers again.
    watch_life_s: float = 3600.0
    # How often the stall detector scans for documents that have been silent for too long.
    scan_every_s: float = 1.0
    # How long the history of a batch is kept after its end, how many of its transitions, and how
    # long the whole batch. `None` keeps everything.
    retain_history_s: float | None = None
    retain_transitions: int | None = None
    retain_batches_s: float | None = None
    # How often retention checks for data to delete.
    retain_every_s: float = 60.0
    # A stream whose client has read nothing for this long is ended; a connection on which the
    # answer of another call has been unread for this long is closed.
    slow_reader_s: float = 60.0
    # A gRPC connection without data from its client for this long is pinged, and closed if the ping
    # is not answered in time.
    keepalive_s: float = 60.0
    keepalive_timeout_s: float = 20.0
    # How many watches may be open, per caller and in total; `WaitBatch`, watches of health and
    # reflection count as well. A caller without a key is identified by its address.
    max_watches_per_caller: int = 10_000
    max_watches: int = 20_000
    # How many other calls may wait for the store, and with how many bytes of requests; also how
    # many gRPC requests may be arriving.
    max_waiting_calls: int = 5_000
    max_waiting_bytes: int = 64 << 20
    # The maximum sizes of a request message, of the headers of a call or request, and of a URL.
    max_message_bytes: int = 4 << 20
    max_header_bytes: int = 32 << 10
    max_url_bytes: int = 64 << 10
    # How long a whole request may take to arrive, by gRPC or HTTP; then, how long the store may
    # take to answer it.
    request_s: float = 20.0
    # How long an HTTP connection may wait for its next request, and a gRPC connection may be
    # without a call. Clients that poll every few seconds keep their connection; after uvicorn's
    # five seconds it would often be closed just as the next request is sent.
    http_idle_s: float = 75.0
    # How many connections may be open, of gRPC and of HTTP each.
    max_connections: int = 5_000
    # How often readiness checks that the store can be written.
    probe_every_s: float = 5.0
    # How often each of several processes sends its supervisor a heartbeat; after six missing in a
    # row it counts as hanging, and is replaced.
    process_heartbeat_s: float = 5.0
    # How long a process that replaces another may take to be ready. The first processes have all
    # the time that the migration of an older file takes. A later one may also meet an older file,
    # and waits ten minutes for another process that migrates it.
    replaced_within_s: float = 660.0
    # How long running calls may take to finish after SIGTERM; and how long after that arriving
    # calls are still refused with a reason.
    drain_s: float = 5.0
    linger_s: float = 0.25


def split_address(address: str, *, or_socket: bool = True) -> tuple[str, int]:
    """Return the host, without the brackets of IPv6, and the port of `HOST:PORT`.

    Args:
        address: the address.
        or_socket: whether the error also names `unix:PATH` as a valid form.

    Raises:
        ValueError: it is malformed.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[3]) > 65_535:
        form = "HOST:PORT, such as 127.0.0.1:50051, with a port up to 65535"
        other = ", or unix:PATH" if or_socket else ""
        raise ValueError(f"{quote(address)} is not {form}{other}{_advice(address)}")
    host = match[1] or match[2]
    try:
        host.encode("idna")  # as Python does before it resolves a name
    except UnicodeError as error:
        raise ValueError(
            f"{quote(host)} is not a host name: each part between dots must have 1 to 63 "
            "characters that are allowed in host names"
        ) from error
    return host, int(match[3])


def _advice(address: str) -> str:
    pasted = _PASTED.fullmatch(address)
    if pasted and _ADDRESS.fullmatch(pasted[1]):
        return f"; type {pasted[1]}"
    return ""


def socket_path(address: str) -> str | None:
    """Return the absolute path of a `unix:PATH` address, `None` for any other.

    Raises:
        ValueError: the path is empty, too long, or has unprintable characters.
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
            f"cannot resolve {quote(address)}: the current directory was deleted"
        ) from error
    if len(path.encode()) > MAX_SOCKET_PATH:
        raise ValueError(
            f"{quote(path)} is too long for a socket: {len(path.encode())} bytes; the limit is "
            f"{MAX_SOCKET_PATH}"
        )
    return path


def check_address(address: str, *, to_call: bool = False, or_socket: bool = True) -> str:
    """Return a valid address to listen on or to call; the path of a socket is made absolute.

    Raises:
        ValueError: it is malformed, or has port 0 and is to be called.
    """
    path = socket_path(address)
    if path is not None:
        return _SOCKET + path
    _, port = split_address(address, or_socket=or_socket)
    if to_call and not port:
        raise ValueError(f"{quote(address)} has port 0; use the port in the server's ready line")
    return address


def is_loopback(address: str) -> bool:
    """Return whether only this machine can reach an address.

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
    except ValueError:  # a host name, which may resolve to any address
        return False


def check_origin(origin: str) -> str:
    """Return a valid origin, as browsers send it: scheme, lower-case host, port unless default.

    Raises:
        ValueError: it is invalid, such as `*`, which browsers refuse with credentials.
    """
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(
            f"{quote(origin)} is not an origin such as https://app.example.com or "
            "http://localhost:3000"
        )
    return origin


def check_root_path(root_path: str) -> str:
    """Return a valid path prefix.

    Raises:
        ValueError: it is invalid, or clients would normalise it before they send a request.
    """
    segments = [unquote(segment) for segment in root_path.split("/")]
    changed = any(segment in (".", "..") or "/" in segment for segment in segments)
    if changed or not _ROOT_PATH.fullmatch(root_path):
        raise ValueError(
            f"{quote(root_path)} is not a path such as /stagecast: it must begin with a slash and "
            "not end with one, have no segment . or .., and no encoded slash; other special "
            "characters must be percent-encoded"
        )
    return root_path

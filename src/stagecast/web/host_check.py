"""Refuses host names that may be somebody else's, while no keys are required.

A site can have its name pointed at a loopback address after its page was loaded (DNS rebinding). To
the browser that page and this server are then one origin, so the page may read whatever needs no
key. Only the name in the Host header, which no script can set, tells such a request from others.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from stagecast.escaping import quote

# No site can have a name that ends like this.
_RESERVED = ("home.arpa", "internal", "local", "localhost", "test")


class HostCheck:
    """Passes on requests whose host is an address or a name that no site can have.

    Args:
        app: the application of a server that only its own machine can reach.
        needs_credentials: whether requests need credentials now; then every name is passed on.
        origins: their host names are passed on as well.
    """

    def __init__(
        self, app: ASGIApp, *, needs_credentials: Callable[[], bool], origins: Collection[str]
    ) -> None:
        self._app = app
        self._needs_credentials = needs_credentials
        self._names = {socket.gethostname().lower(), *map(_name_of, origins)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        known = _is_nobodys(host) or _host_name(host) in self._names
        app = self._app if known or self._needs_credentials() else _refusal(host)
        await app(scope, receive, send)


@lru_cache(maxsize=256)
def _is_nobodys(host: bytes) -> bool:
    """Return whether a host is an address, or a name that no site can have."""
    name = _host_name(host)
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return "." not in name or name.endswith(tuple(f".{suffix}" for suffix in _RESERVED))


@lru_cache(maxsize=256)
def _host_name(host: bytes) -> str:
    return _name_of(f"//{host.decode('latin-1')}")


def _name_of(url: str) -> str:
    """Return the host name of a URL; a malformed one has none that is known."""
    try:
        return (urlsplit(url).hostname or "").removesuffix(".")
    except ValueError:
        return "malformed."


def _refusal(host: bytes) -> JSONResponse:
    """Return an error as the Connect protocol writes it."""
    message = (
        f"unknown host {quote(host.decode('latin-1'))}: without keys, this server answers only "
        "under an address or a local name; require keys, or start it with --cors-origin for this "
        "host"
    )
    return JSONResponse({"code": "permission_denied", "message": message}, status_code=403)

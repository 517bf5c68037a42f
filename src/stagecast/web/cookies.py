"""The cookie of a signed-in browser, taken in place of an `Authorization` header."""

from __future__ import annotations

import hashlib
import re
from typing import Protocol
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from stagecast.auth import LIFE_S, Sessions, forgery_token
from stagecast.errors import CredentialsError

FORGERY_HEADER = "x-stagecast-forgery-token"

_COOKIE = "stagecast_session"
_PORT = re.compile(":([0-9]+)$", re.ASCII)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Application(Protocol):
    """An application with paths of its own."""

    def serves(self, path: str) -> bool:
        """Return whether a path is one of its own."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for one of its paths."""
        ...


class SessionCookies:
    """Gives a request with our cookie and no credentials those of the session.

    Whatever may change something must prove that it comes from our page: `SameSite` does not
    distinguish the ports of a host.
    """

    def __init__(self, app: Application, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    def serves(self, path: str) -> bool:
        """Return whether a path is one of the application's."""
        return self._app.serves(path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse one that may be forged."""
        session = _session_without_credentials(scope)
        if session is None:
            await self._app(scope, receive, send)
        elif scope["method"] not in _SAFE_METHODS and not _is_ours(scope, session):
            await _refusal()(scope, receive, send)
        else:
            await self._app(self._signed_in(scope, session), receive, send)

    def _signed_in(self, scope: Scope, session: str) -> Scope:
        """Return the scope with the credential of a session; unchanged if that is not valid."""
        try:
            credential = self._sessions.open(session)
        except CredentialsError:
            return scope
        header = (b"authorization", f"Bearer {credential}".encode())
        return {**scope, "headers": [*scope["headers"], header]}


def cookie_name(scope: Scope) -> str:
    """Return the name of our cookie, which no other server on the same host has.

    Browsers send a cookie to all ports of a host, and below its path to all servers there. The Host
    header has the port as the browser knows it, or at least as the proxy in between does.
    """
    port = _PORT.search(Headers(scope=scope).get("host", ""))
    root_path = scope.get("root_path", "")
    digest = hashlib.blake2b(root_path.encode(), digest_size=4).hexdigest() if root_path else ""
    return "_".join(filter(None, (_COOKIE, port and port[1], digest)))


def session_of(scope: Scope) -> str | None:
    """Return what our cookie holds, if there is one."""
    cookies = cookie_parser(Headers(scope=scope).get("cookie", ""))
    return cookies.get(cookie_name(scope)) or None


def set_session(response: Response, scope: Scope, session: str | None) -> None:
    """Set our cookie; without a session, remove it.

    `Secure` also behind a proxy that has ended TLS: a false header can only make it stricter.
    """
    response.set_cookie(
        cookie_name(scope),
        session or "",
        max_age=LIFE_S if session else 0,
        # As it is in the URL: a browser compares the two as they are.
        path=quote(scope.get("root_path", "")) or "/",
        secure=scope.get("scheme") == "https" or _was_https(Headers(scope=scope)),
        httponly=True,
        samesite="strict",
    )


def _was_https(headers: Headers) -> bool:
    """Return whether the browser spoke TLS, as the first of several proxies says."""
    return headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower() == "https"


def _session_without_credentials(scope: Scope) -> str | None:
    headers = Headers(scope=scope)
    if "authorization" in headers or "x-api-key" in headers:
        return None
    return session_of(scope)


def _is_ours(scope: Scope, session: str) -> bool:
    return Headers(scope=scope).get(FORGERY_HEADER) == forgery_token(session)


def _refusal() -> Response:
    """Return an error as the Connect protocol writes it."""
    message = f"missing or wrong header {FORGERY_HEADER}; reload the page"
    return JSONResponse({"code": "permission_denied", "message": message}, status_code=403)

"""The base of both paths: methods, authentication, errors in the style of each path."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from starlette import types
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stagecast.auth import Authenticator
from stagecast.errors import CredentialsError, DeniedError, NotFoundError, UnavailableError
from stagecast.grace import Grace
from stagecast.model import Caller, Scope
from stagecast.store import store_timeout

ON_DISCONNECT = "stagecast.on_disconnect"
"""In the `state` of a scope: what to call if the client disconnects before the answer is made."""

_log = logging.getLogger(__name__)

_EXPECTED_ERRORS = (HTTPException, CredentialsError, DeniedError, NotFoundError, UnavailableError)


class Endpoint(ABC):
    """One path as an ASGI application.

    Every error is answered by `error_response`, since clients know only the format of their own
    server.

    Args:
        authenticator: maps credentials to callers.
        store_s: how long a request may wait for the store.
        grace: ends such waits when the server stops.
    """

    methods: ClassVar[tuple[str, ...]]

    def __init__(self, authenticator: Authenticator, *, store_s: float, grace: Grace) -> None:
        self._authenticator = authenticator
        self._store_s = store_s
        self._grace = grace

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        """Answer one request."""
        response = await self._respond(Request(scope, receive, send))
        await response(scope, receive, send)

    @abstractmethod
    def credentials(self, request: Request) -> Sequence[str]:
        """Return the credentials from the headers that clients of this path use."""

    @abstractmethod
    async def answer(self, request: Request, caller: Caller) -> Response:
        """Return the response to a request with one of the `methods`."""

    @abstractmethod
    def error_response(self, error: Exception) -> Response:
        """Return the response for an error, without any details of bugs."""

    async def _respond(self, request: Request) -> Response:
        if request.method not in self.methods:
            allow = {"Allow": ", ".join(self.methods)}
            return self.error_response(HTTPException(405, headers=allow))
        waiting = self._grace.until_over()
        # A poll changes nothing, so a client that has left need not wait for the store.
        request.scope.setdefault("state", {})[ON_DISCONNECT] = waiting.end
        try:
            with waiting:
                async with store_timeout(self._store_s):
                    return await self.answer(request, self._admit(request))
        except _EXPECTED_ERRORS as error:
            return self.error_response(error)
        except Exception as error:
            _log.exception("%s %r failed", request.method, request.scope["path"])
            return self.error_response(error)

    def _admit(self, request: Request) -> Caller:
        # Without authentication, malformed headers are ignored.
        credentials = self.credentials(request) if self._authenticator.on else ()
        return self._authenticator.admit(credentials, Scope.READ)

"""What both paths have in common: methods, and errors in the path's own style."""

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

_log = logging.getLogger(__name__)

_REPORTED = (HTTPException, CredentialsError, DeniedError, NotFoundError, UnavailableError)


class Endpoint(ABC):
    """One path as an ASGI application.

    Everything that goes wrong is answered by `explain`: clients know the style of their own server
    and no other.

    Args:
        authenticator: says who may ask.
        store_s: how long an answer may wait for the store.
        grace: how long when the server stops.
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
        """Return the credentials that the request bears, wherever clients of this path put them."""

    @abstractmethod
    async def answer(self, request: Request, caller: Caller) -> Response:
        """Return the answer to a request of one of the `methods`."""

    @abstractmethod
    def explain(self, error: Exception) -> Response:
        """Return the answer that tells of an error and leaks nothing of those that are bugs."""

    async def _respond(self, request: Request) -> Response:
        if request.method not in self.methods:
            allow = {"Allow": ", ".join(self.methods)}
            return self.explain(HTTPException(405, headers=allow))
        try:
            async with self._grace.until_over(), store_timeout(self._store_s):
                return await self.answer(request, self._admit(request))
        except _REPORTED as error:
            return self.explain(error)
        except Exception as error:
            _log.exception("%s %r failed", request.method, request.scope["path"])
            return self.explain(error)

    def _admit(self, request: Request) -> Caller:
        # While nobody is asked, nobody is told that a header is not as it should be.
        credentials = self.credentials(request) if self._authenticator.on else ()
        return self._authenticator.admit(credentials, Scope.READ)

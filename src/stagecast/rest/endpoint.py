"""What both paths have in common: methods, and errors in the path's own style."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import ClassVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stagecast.errors import NotFoundError, UnavailableError

_log = logging.getLogger(__name__)


class Endpoint(ABC):
    """One path as an ASGI application.

    Everything that goes wrong is answered by `explain`: clients know the style of their own server
    and no other.
    """

    methods: ClassVar[tuple[str, ...]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response = await self._respond(Request(scope, receive, send))
        await response(scope, receive, send)

    @abstractmethod
    async def answer(self, request: Request) -> Response:
        """Return the answer to a request of one of the `methods`."""

    @abstractmethod
    def explain(self, error: Exception) -> Response:
        """Return the answer that tells of an error and leaks nothing of those that are bugs."""

    async def _respond(self, request: Request) -> Response:
        if request.method not in self.methods:
            allow = {"Allow": ", ".join(self.methods)}
            return self.explain(HTTPException(405, headers=allow))
        try:
            return await self.answer(request)
        except (NotFoundError, UnavailableError) as error:
            return self.explain(error)
        except Exception as error:
            _log.exception("%s %s failed", request.method, request.url.path)
            return self.explain(error)

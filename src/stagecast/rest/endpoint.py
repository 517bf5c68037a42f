"""The base of both paths: methods, authentication, errors in the style of each path."""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import ClassVar, Generic, TypeVar

from starlette import types
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response

from stagecast.asgi import ON_DISCONNECT
from stagecast.auth import Authenticator
from stagecast.errors import CredentialsError, DeniedError, NotFoundError, Unavailable
from stagecast.grace import Grace
from stagecast.model import Caller, Scope
from stagecast.rest.content import CACHING, Content
from stagecast.rest.response_cache import ResponseCache
from stagecast.store import Store, store_timeout

_log = logging.getLogger(__name__)

_EXPECTED_ERRORS = (HTTPException, CredentialsError, DeniedError, NotFoundError, Unavailable)

Key = TypeVar("Key", bound=Hashable)


class Endpoint(ABC, Generic[Key]):
    """One path as an ASGI application.

    Every error is answered by `error_response`, since clients know only the format of their own
    server.

    Args:
        store: read for the answers.
        authenticator: maps credentials to callers.
        store_s: how long a request may wait for the store.
        grace: ends such waits when the server stops.
    """

    methods: ClassVar[tuple[str, ...]]

    def __init__(
        self, store: Store, authenticator: Authenticator, *, store_s: float, grace: Grace
    ) -> None:
        self.store = store
        self.cache = ResponseCache(store)
        self._authenticator = authenticator
        self._store_s = store_s
        self._grace = grace

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        """Answer one request: with what is kept, or else from the store."""
        version = self.store.version()
        response: types.ASGIApp | None
        try:
            caller = self._admit(scope, version)
            key = self.key(scope, caller)
            response = self.cache.find(key, version)
        except Exception as error:
            response = self._failed(scope, error)
        if response is not None:
            await response(scope, receive, send)
            return
        async with contextlib.AsyncExitStack() as sending:
            try:
                response = await self._read(scope, key, caller, version, sending)
            except Exception as error:
                response = self._failed(scope, error)
            await response(scope, receive, send)

    @abstractmethod
    def credentials(self, headers: Headers) -> Sequence[str]:
        """Return the credentials from the headers that clients of this path use."""

    @abstractmethod
    def key(self, scope: types.Scope, caller: Caller) -> Key:
        """Return what is requested: equal keys have equal answers.

        Raises:
            NotFoundError: there is no such thing, or it is not visible to the caller.
        """

    @abstractmethod
    async def read(
        self, key: Key, caller: Caller, version: int, sending: contextlib.AsyncExitStack
    ) -> Content:
        """Read an answer, and keep it.

        Args:
            key: what is requested.
            caller: sees only the visible datasets.
            version: of the store before.
            sending: holds what must live until the answer is sent.
        """

    @abstractmethod
    def error_response(self, error: Exception) -> Response:
        """Return the response for an error, without any details of bugs."""

    def _admit(self, scope: types.Scope, version: int) -> Caller:
        if scope["method"] not in self.methods:
            raise HTTPException(405, headers={"Allow": ", ".join(self.methods)})
        return self._authenticator.admit(
            lambda: self.credentials(Headers(scope=scope)), Scope.READ, store_version=version
        )

    async def _read(
        self,
        scope: types.Scope,
        key: Key,
        caller: Caller,
        version: int,
        sending: contextlib.AsyncExitStack,
    ) -> Content:
        waiting = self._grace.until_over()
        # A poll changes nothing, so a client that has left need not wait for the store.
        scope.setdefault("state", {})[ON_DISCONNECT] = waiting.end
        with waiting:
            async with store_timeout(self._store_s):
                return await self.read(key, caller, version, sending)

    def _failed(self, scope: types.Scope, error: Exception) -> Response:
        if not isinstance(error, _EXPECTED_ERRORS):
            _log.exception("%s %r failed", scope["method"], scope["path"])
        response = self.error_response(error)
        response.raw_headers.append(CACHING)
        return response

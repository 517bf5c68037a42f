"""A call over HTTP: what the steps of a call and its handler need, as grpc's context has it."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NoReturn, cast

import grpc
from grpc import aio
from starlette import types

from stagecast.asgi import ON_DISCONNECT
from stagecast.rpc.http.failure import Failure
from stagecast.rpc.http.method import Method

Headers = list[tuple[bytes, bytes]]


class HttpCall(ABC):
    """One request, and the stream or single message that answers it.

    Attributes:
        method: the RPC.
        scope: of the request.
        headers: of the request, by their names in lower case; of repeated ones the last.
    """

    def __init__(
        self, method: Method, scope: types.Scope, receive: types.Receive, send: types.Send
    ) -> None:
        self.method = method
        self.scope = scope
        self.headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        self.receive = receive
        self.send = send
        self._task = cast("asyncio.Task[object]", asyncio.current_task())
        self._disconnected = False

    async def run(self) -> None:
        """Take the steps of the call, and answer the request."""
        self.scope.setdefault("state", {})[ON_DISCONNECT] = self._disconnect
        try:
            # Every failure of the steps is answered in `abort`, which raises the error.
            with contextlib.suppress(aio.AbortError):
                await self.finish(await self.steps())
        except asyncio.CancelledError:
            if not self._disconnected or self._task.uncancel():
                raise

    def _disconnect(self) -> None:
        self._disconnected = True
        self._task.cancel()

    async def steps(self) -> bytes | None:
        """Take the steps of the call; return its single answer."""
        answer: bytes | None = await self.method.run(None, self)
        return answer

    @abstractmethod
    async def finish(self, answer: bytes | None) -> None:
        """Answer the request, or end its stream, after the steps have succeeded."""

    @abstractmethod
    async def fail(self, failure: Failure) -> None:
        """Answer the request, or end its stream, with an error."""

    async def answer(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """Answer the request with a whole response."""
        await answer(self.send, status, headers, body)

    # As grpc's context has it.

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """Return the headers of the request."""
        return [(name.decode("latin-1"), _text(value)) for name, value in self.scope["headers"]]

    def peer(self) -> str:
        """Return the address of the client, as grpc writes it."""
        client = self.scope.get("client")
        if not client:
            return "unix:"
        host, port = client
        return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def time_remaining(self) -> float | None:
        """Return how many seconds the client waits for an answer; `None` if it did not say."""
        return None

    @abstractmethod
    async def send_initial_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        """Tell the client that its request was accepted."""

    @abstractmethod
    async def read(self) -> bytes:
        """Return the request, encoded.

        Raises:
            FieldInvalid: it is malformed.
        """

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> NoReturn:
        """Answer the request, or end its stream, with an error.

        Raises:
            grpc.aio.AbortError: always.
        """
        await self.fail(Failure.of(code, details, trailing_metadata))
        raise aio.AbortError


async def answer(send: types.Send, status: int, headers: Headers, body: bytes = b"") -> None:
    """Send a whole response."""
    if status != 204:
        headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value

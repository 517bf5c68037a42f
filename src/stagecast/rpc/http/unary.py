"""Unary calls by the Connect protocol: a POST with the request, as JSON or binary."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import partial

import grpc
from starlette import types

from stagecast.errors import FieldInvalid
from stagecast.rpc.http.call import HttpCall
from stagecast.rpc.http.failure import Failure
from stagecast.rpc.http.messages import dump, encode_json, run
from stagecast.rpc.http.method import Method

CONTENT_TYPES = ("application/json", "application/proto")

_VERSION = "1"
_TIMEOUT = re.compile("[0-9]{1,10}", re.ASCII)


class UnaryCall(HttpCall):
    """A call with one answer.

    Args:
        max_bytes: of the body of a request.
    """

    def __init__(
        self,
        method: Method,
        scope: types.Scope,
        receive: types.Receive,
        send: types.Send,
        *,
        max_bytes: int,
    ) -> None:
        super().__init__(method, scope, receive, send)
        self._max_bytes = max_bytes
        self._json = media_type(self.headers.get(b"content-type", "")) == CONTENT_TYPES[0]
        self._end_s: float | None = None

    async def steps(self) -> bytes | None:
        """Take the steps of the call within the time that the client waits."""
        timeout_ms = self.headers.get(b"connect-timeout-ms")
        if timeout_ms is None:
            return await super().steps()
        if not _TIMEOUT.fullmatch(timeout_ms):
            rule = "Connect-Timeout-Ms must be a number of milliseconds, of up to 10 digits"
            await self.abort(grpc.StatusCode.INVALID_ARGUMENT, rule)
        self._end_s = asyncio.get_running_loop().time() + int(timeout_ms) / 1_000
        try:
            async with asyncio.timeout_at(self._end_s):
                return await super().steps()
        except TimeoutError:
            await self.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "not answered within the timeout")

    async def finish(self, answer: bytes | None) -> None:
        """Answer the request."""
        body, content_type = answer or b"", CONTENT_TYPES[1]
        if self._json:
            body, content_type = await self._to_json(body), CONTENT_TYPES[0]
        await self.answer(200, [(b"content-type", content_type.encode())], body)

    async def _to_json(self, answer: bytes) -> bytes:
        message = self.method.response.FromString(answer)
        return await run(partial(dump, message), len(answer))

    async def fail(self, failure: Failure) -> None:
        """Answer the request with an error."""
        await self.answer(failure.status, failure.headers(), failure.body())

    def time_remaining(self) -> float | None:
        """Return how many seconds the client waits for an answer; `None` if it did not say."""
        return self._end_s and max(0.0, self._end_s - asyncio.get_running_loop().time())

    async def send_initial_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        """Do nothing: the headers are sent with the answer."""

    async def read(self) -> bytes:
        """Return the request, encoded.

        Raises:
            FieldInvalid: it is malformed, or of a protocol that is not supported.
        """
        version = self.headers.get(b"connect-protocol-version", _VERSION)
        if version != _VERSION:
            raise FieldInvalid("Connect-Protocol-Version", f"must be {_VERSION}")
        encoding = self.headers.get(b"content-encoding", "identity")
        if encoding != "identity":
            rule = "compressed requests are not supported; send it without Content-Encoding"
            await self.abort(grpc.StatusCode.UNIMPLEMENTED, rule)
        body = await self._read_body()
        return await encode_json(self.method.request, body) if self._json else body

    async def _read_body(self) -> bytes:
        body = bytearray()
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise FieldInvalid("request", "incomplete")
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                rule = f"the request is larger than {self._max_bytes} bytes"
                await self.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, rule)
            more = message.get("more_body", False)
        return bytes(body)


def media_type(content_type: str) -> str:
    """Return a content type without its parameters."""
    return content_type.partition(";")[0].strip().lower()

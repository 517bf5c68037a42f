"""JSON bodies with a strong ETag, gathered and sent in chunks.

A body may have tens of megabytes: its chunks are never joined, and a client that has it already
gets 304.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_OPAQUE_TAG = re.compile(r'"[^"]*"')


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True, eq=False)
class Content:
    """A body; `etag` is a digest of its bytes, `size` their number."""

    chunks: Sequence[bytes]
    size: int
    etag: str


class Body:
    """Builds the content of a response chunk by chunk."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._digest = hashlib.blake2b(digest_size=16)

    @property
    def begun(self) -> bool:
        """Whether a chunk was added."""
        return bool(self._chunks)

    def add(self, chunk: bytes) -> None:
        """Add a chunk, which must not be empty."""
        self._digest.update(chunk)
        self._chunks.append(chunk)

    def end(self, chunk: bytes) -> Content:
        """Add the last chunk and return the content."""
        self.add(chunk)
        if len(self._chunks) > 1:
            last = self._chunks.pop()
            self._chunks[-1] += last
        return Content(
            chunks=self._chunks,
            size=sum(map(len, self._chunks)),
            etag=f'"{self._digest.hexdigest()}"',
        )


def respond(request: Request, content: Content) -> Response:
    """Return 200 with the body, or 304 if `If-None-Match` has its ETag."""
    headers = {"ETag": content.etag}
    if _matches(content.etag, request.headers.getlist("if-none-match")):
        return Response(status_code=304, headers=headers)
    return _ContentResponse(content, headers)


class _ContentResponse(Response):
    """Sends chunk by chunk, at the client's pace."""

    media_type = "application/json"

    def __init__(self, content: Content, headers: dict[str, str]) -> None:
        super().__init__(headers={**headers, "Content-Length": str(content.size)})
        self._content = content  # referenced while it is sent, see `response_cache`

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; for a HEAD request, the server omits the body."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        *parts, last = self._content.chunks
        for chunk in parts:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": last, "more_body": False})


def _matches(etag: str, conditions: Sequence[str]) -> bool:
    """Compare weakly, as RFC 9110 demands for `If-None-Match`: `W/` is ignored."""
    return any(
        condition.strip() == "*" or etag in _OPAQUE_TAG.findall(condition)
        for condition in conditions
    )

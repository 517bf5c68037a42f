"""JSON bodies with a strong ETag, gathered and sent in chunks.

A body may have tens of megabytes: it is never joined into one, and whoever has it already is not
sent it again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_PIECES = 256  # in one chunk: some 90 KB of documents
_OPAQUE_TAG = re.compile(r'"[^"]*"')


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """A body; `etag` is a digest of its bytes."""

    chunks: Sequence[bytes]
    etag: str

    @classmethod
    def gather(cls, pieces: Iterable[str]) -> Content:
        """Make a body of pieces of text, none of which is empty."""
        digest = hashlib.blake2b(digest_size=16)
        chunks = []
        following = iter(pieces)
        while text := "".join(islice(following, _PIECES)):
            chunk = text.encode()
            digest.update(chunk)
            chunks.append(chunk)
        return cls(chunks=chunks, etag=f'"{digest.hexdigest()}"')


def respond(request: Request, content: Content) -> Response:
    """Return 200 with the body, or 304 if the client names its ETag."""
    headers = {"ETag": content.etag}
    if _is_known(content.etag, request.headers.getlist("if-none-match")):
        return Response(status_code=304, headers=headers)
    return _ContentResponse(content, headers)


class _ContentResponse(Response):
    """Sends chunk by chunk, at the client's pace."""

    media_type = "application/json"

    def __init__(self, content: Content, headers: dict[str, str]) -> None:
        length = sum(map(len, content.chunks))
        super().__init__(headers={**headers, "Content-Length": str(length)})
        self._chunks = content.chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything; the server leaves the body out where the request is a HEAD."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        for chunk in self._chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _is_known(etag: str, conditions: Sequence[str]) -> bool:
    """Compare weakly, as RFC 9110 wants it for `If-None-Match`: `W/` makes no difference."""
    return any(
        condition.strip() == "*" or etag in _OPAQUE_TAG.findall(condition)
        for condition in conditions
    )

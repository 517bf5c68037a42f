"""JSON bodies with a strong ETag, gathered and sent in chunks.

A body may have tens of megabytes: its chunks are never joined, and a client that has it already
gets 304.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from starlette.types import Receive, Scope, Send

# It depends on the caller's credentials, and some caches know only `Authorization`. A client may
# keep it, and asks with `If-None-Match` whether it has changed.
CACHING = (b"cache-control", b"private, no-cache")

_OPAQUE_TAG = re.compile(r'"[^"]*"')


class Content:
    """A body, and the ASGI application that answers with it.

    Attributes:
        chunks: the body.
        size: the number of its bytes.
        etag: a digest of its bytes, in quotes.
    """

    __slots__ = ("_head", "_tag", "chunks", "etag", "size")

    def __init__(self, chunks: Sequence[bytes], etag: str) -> None:
        self.chunks = chunks
        self.size = sum(map(len, chunks))
        self.etag = etag
        # Once for all answers: a body may be polled thousands of times.
        self._tag = (b"etag", etag.encode())
        self._head = (
            self._tag,
            CACHING,
            (b"content-length", b"%d" % self.size),
            (b"content-type", b"application/json"),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send 200 and the body at the client's pace, or 304 if `If-None-Match` has its ETag.

        For a HEAD request, the server omits the body.
        """
        unchanged = self._is_known(value for name, value in scope["headers"] if name == _CONDITION)
        # Lists of their own: middleware adds headers to them.
        headers = [self._tag, CACHING] if unchanged else [*self._head]
        status = 304 if unchanged else 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if unchanged:
            await send({"type": "http.response.body"})
            return
        *parts, last = self.chunks
        for chunk in parts:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": last})

    def _is_known(self, conditions: Iterable[bytes]) -> bool:
        """Compare weakly, as RFC 9110 demands for `If-None-Match`: `W/` is ignored."""
        for condition in conditions:
            text = condition.decode("latin-1")
            if text == self.etag or text.strip() == "*" or self.etag in _OPAQUE_TAG.findall(text):
                return True
        return False


_CONDITION = b"if-none-match"


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
        return Content(self._chunks, f'"{self._digest.hexdigest()}"')

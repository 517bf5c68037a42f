"""HTTP/1.1 with limits: what a client sends costs a bounded number of bytes, and of seconds.

uvicorn waits for ever for the rest of a request, and keeps whatever has come of its head. Bodies
are read and thrown away: no path takes one. It also takes any number of requests before it has
answered the first, and any number of headers behind a body. What strangers send is not logged.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stagecast.config import Config

_RETRY_AFTER_S = 5

_LINE_BYTES = 64  # of the first line, beside the URL
_FIELD_BYTES = 4  # of a header, beside its name and value
_PIPELINED = 16  # requests that wait for the answer to one before
_HANG_UP_S = 2.0  # for a client that is told something while it still sends

# `http://host` before the path: a client that takes this server for a proxy names all of it.
_ORIGIN = re.compile(rb"\A[A-Za-z][A-Za-z0-9+.-]*://[^/#]*")
_SLASHES = re.compile(rb"/{2,}")

# More than its reason phrase is not known to anybody who gets one of these.
_PHRASES = {
    400: "Bad Request",
    408: "Request Timeout",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    503: "Service Unavailable",
}


class BoundedProtocol(HttpToolsProtocol):
    """One connection; what exceeds a limit is answered, and the connection closed."""

    def __init__(self, *, limits: Config, **arguments: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(**arguments)
        self.url = b""
        self._limits = limits
        self._max_head_bytes = limits.max_url_bytes + limits.max_header_bytes + _LINE_BYTES
        self._fault = 400
        self._ended = False
        self._begun = False  # a request that has not come to its end
        self._in_head = True  # and not in a body, or behind it
        self._bytes = 0  # that came since a head, a part of a body or a request was whole
        self._timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Expect a request, unless there are too many connections."""
        super().connection_made(transport)  # type: ignore[arg-type]  # it is a Transport
        self._expect_request()
        if len(self.connections) > self._limits.max_connections:
            self._end(503)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come, unless a head, or what stands behind a body, is too large."""
        if self._ended:  # what still comes is thrown away, so that the answer can be read
            return
        self._begin()
        self._bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._end(self._fault)
        if self._bytes > self._max_head_bytes:
            self._end(431)

    def on_message_begin(self) -> None:
        """Begin a request, which may have come together with the end of the one before."""
        super().on_message_begin()
        self._begin()
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        """Take a part of a URL, unless it is too long by now."""
        super().on_url(url)
        if len(self.url) > self._limits.max_url_bytes:
            self._refuse(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; one that stands behind a body is thrown away as that is."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let a request through whose head is not too large, if not too many are."""
        if self.parser.should_upgrade():
            return
        self._in_head = False
        self._bytes = 0
        if len(self.pipeline) >= _PIPELINED:
            self._refuse(503)
        fields = sum(len(name) + len(value) + _FIELD_BYTES for name, value in self.headers)
        if fields > self._limits.max_header_bytes:
            self._refuse(431)
        # The parser of URLs takes none of 64 KiB, and the task that answers has not begun yet.
        target, _, query = self.url.partition(b"?")
        self.url = _path_of(target)
        super().on_headers_complete()
        self.scope["query_string"] = query.partition(b"#")[0]

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next request as long as uvicorn does."""
        if self.parser.should_upgrade():
            return
        self._begun = False
        self._expect_nothing()
        self._bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with what has begun behind the request that was answered."""
        super().on_response_complete()
        if self._begun and not self.transport.is_closing():
            self._begin()

    def _parse(self, data: bytes) -> None:
        """Hand what has come to the parser.

        Whoever offers another protocol is answered in this one (RFC 9110, 7.8). The parser stops
        there and takes no body, so another one is told the head once more, without the offer.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._head_without_offer() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            else:
                return

    def _head_without_offer(self) -> bytes:
        """Return the head of the request that was parsed last, as it was but for `Upgrade`.

        Raises:
            httptools.HttpParserError: it wants a tunnel, which is no offer.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._fault = 501
            raise httptools.HttpParserError(_PHRASES[501])
        version = self.parser.get_http_version().encode()
        fields = (b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade")
        return b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, b"".join(fields))

    def _refuse(self, status: int) -> None:
        """Break off the parser, whose error is answered with this status."""
        self._fault = status
        raise ValueError(_PHRASES[status])

    def _begin(self) -> None:
        """Expect the rest of a request; behind one that is being answered, only after that."""
        self._begun = True
        if not self._answering:
            self._expect_request()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_request(self) -> None:
        if self._timeout is None:
            self._timeout = self.loop.call_later(self._limits.request_s, self._end, 408)

    def _expect_nothing(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _end(self, status: int) -> None:
        """Answer, unless an answer is under way, and close the connection."""
        if self._ended or self.transport.is_closing():
            return
        self._ended = True
        self._expect_nothing()
        if self._answering:
            self.transport.close()
            return
        self.transport.write(_answer(status))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_HANG_UP_S, self.transport.abort)


def _path_of(target: bytes) -> bytes:
    """Return the path of a request's target, with one slash where a client has joined two."""
    return _SLASHES.sub(b"/", _ORIGIN.sub(b"", target, count=1) or b"/")


def _answer(status: int) -> bytes:
    """Return an answer that clients of both paths can read: the path is not known yet."""
    phrase = _PHRASES[status]
    code = phrase.lower().replace(" ", "_")
    body = json.dumps({"status": status, "code": code, "message": phrase, "detail": phrase})
    retry = f"retry-after: {_RETRY_AFTER_S}\r\n" if status == 503 else ""
    return (
        f"HTTP/1.1 {status} {phrase}\r\n{retry}connection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()

"""HTTP/1.1 with limits on the size and the duration of requests.

uvicorn has no timeout for the rest of a request, and no limits on the size of its head, on the
number of pipelined requests, and on trailers. What is left of a body when its request is answered
is discarded; the paths that read one have their own limits. Malformed requests are not logged.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stagecast.asgi import ON_DISCONNECT
from stagecast.config import Config
from stagecast.rest.response_cycle import DateHeader, ResponseCycle

_RETRY_AFTER_S = 5

_LINE_BYTES = 64  # of the request line, without the URL
_FIELD_BYTES = 4  # of a header, without its name and value
_MAX_PIPELINED = 16  # requests that wait for the response to an earlier one
_HANG_UP_S = 2.0  # for a client to read an error while it is still sending

# `http://host` before the path, which clients send to a proxy.
_ORIGIN = re.compile(rb"\A[A-Za-z][A-Za-z0-9+.-]*://[^/#]*")
_SLASHES = re.compile(rb"/{2,}")

# Reason phrases of the errors sent here; clients get no other message.
_PHRASES = {
    400: "Bad Request",
    408: "Request Timeout",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    503: "Service Unavailable",
}


class BoundedProtocol(HttpToolsProtocol):
    """One connection; if a limit is exceeded, it gets an error response and is closed.

    Args:
        limits: the limits.
        date: of responses.
        on_unsent: called with the transport when data waits for the client to read.
        arguments: those of uvicorn.
    """

    def __init__(
        self,
        *,
        limits: Config,
        date: DateHeader,
        on_unsent: Callable[[asyncio.Transport], None],
        **arguments: Any,  # noqa: ANN401 - as in uvicorn
    ) -> None:
        super().__init__(**arguments)
        self.url = b""
        self._limits = limits
        self._date = date
        self._on_unsent = on_unsent
        self._max_head_bytes = limits.max_url_bytes + limits.max_header_bytes + _LINE_BYTES
        self._error_status = 400
        self._ended = False
        self._excess = False  # beyond the limit when it was counted
        self._incomplete = False  # a request is incomplete
        self._in_head = True  # and not in a body or its trailers
        self._bytes = 0  # received since the last complete head, part of a body, or request
        self._field_bytes = 0  # of the headers of a request
        self._timeout: asyncio.TimerHandle | None = None
        self._late = False  # whether the request that is being answered has timed out
        self._current: ResponseCycle | None = None  # of the request that is being answered

    def count(self) -> None:
        """Count the connection from now on, such as from the start of its TLS handshake."""
        if self not in self.connections:
            self.connections.add(self)
            self._excess = self._too_many

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timeout for a request, or refuse the connection if it was one too many."""
        self.count()
        super().connection_made(transport)  # type: ignore[arg-type]  # it is a Transport
        self._start_timeout()
        # Those within the limit are not refused while another one waits for its refusal.
        if self._excess and self._too_many:
            self._end_connection(503)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeout, end waiting for the store, and drop what is left of the response."""
        self._cancel_timeout()
        if self._current is not None:
            # uvicorn itself ends only the last request of a pipeline.
            self._current.disconnected = True
            self._current.scope["state"].get(ON_DISCONNECT, lambda: None)()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data, unless a head or trailers are too large."""
        if self._ended:  # discarded, so that the client can read the error
            return
        self._incomplete = True
        self._bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._end_connection(self._error_status)
        if self._bytes > self._max_head_bytes:
            self._end_connection(431)
        self._time_request()

    def on_message_begin(self) -> None:
        """Begin a request, perhaps in the same data as the end of the previous one."""
        super().on_message_begin()
        self._incomplete = self._in_head = True
        self._late = False
        self._field_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Add a part of a URL, unless it becomes too long."""
        super().on_url(url)
        if len(self.url) > self._limits.max_url_bytes:
            self._abort(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header; trailers are discarded, as bodies are."""
        if self._in_head:
            self._field_bytes += len(name) + len(value) + _FIELD_BYTES
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Pass a request on, unless its head is too large or too many are pipelined."""
        if self.parser.should_upgrade():
            return
        self._in_head = False
        self._bytes = 0
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._abort(503)
        if self._field_bytes > self._limits.max_header_bytes:
            self._abort(431)
        self._complete_scope()
        answering = self._answering
        self.cycle = self._make_cycle()
        if answering:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._current = self.cycle
            self._start_asgi_task(self.cycle, self.app)

    def _complete_scope(self) -> None:
        # Of the URL only the path is parsed by httptools, which fails at 64 KiB.
        target, _, query = self.url.partition(b"?")
        raw_path = _path_of(target)
        path = raw_path.decode("ascii")
        scope = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = self.parser.get_http_version()
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = query.partition(b"#")[0]

    def _make_cycle(self) -> ResponseCycle:
        return ResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self._date.get(),
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=self.scope["http_version"] != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )

    def on_body(self, body: bytes) -> None:
        """Keep a part of a body, unless its request is answered."""
        self._bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Cancel the timeout; uvicorn has its own for the next request."""
        if self.parser.should_upgrade():
            return
        self._incomplete = False
        self._cancel_timeout()
        self._bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Answer the next request, or start the timeout of one that has begun meanwhile."""
        self._current = cast("ResponseCycle", self.pipeline[-1][0]) if self.pipeline else None
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._on_unsent(self.transport)
        self._time_request()

    def pause_writing(self) -> None:
        """Wait for a slow client."""
        super().pause_writing()
        if self._current is None or not self._current.timed:
            self._on_unsent(self.transport)

    def _parse(self, data: bytes) -> None:
        """Parse data.

        A request with `Upgrade` gets an HTTP/1.1 response (RFC 9110, 7.8). The parser stops there
        and reads no body, so a new one gets the head again, without `Upgrade`.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        """Return the head of the last request without its `Upgrade` headers.

        Raises:
            httptools.HttpParserError: the method is CONNECT.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._error_status = 501
            raise httptools.HttpParserError(_PHRASES[501])
        version = self.parser.get_http_version().encode()
        fields = (b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade")
        return b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, b"".join(fields))

    def _abort(self, status: int) -> None:
        """Abort the parser; its error is answered with this status."""
        self._error_status = status
        raise ValueError(_PHRASES[status])

    def _time_request(self) -> None:
        """Start the timeout of an incomplete request, but not while another is being answered."""
        if self._incomplete and not (self._ended or self._answering or self.transport.is_closing()):
            self._start_timeout()

    @property
    def _too_many(self) -> bool:
        return len(self.connections) > self._limits.max_connections

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_timeout(self) -> None:
        if self._timeout is None:
            self._timeout = self.loop.call_later(self._limits.request_s, self._time_out)

    def _time_out(self) -> None:
        """End the connection; an application that reads the body has time to answer first."""
        self._timeout = None
        if self._answering and not self._late:
            self._late = True
            self._start_timeout()
        else:
            self._end_connection(408)

    def _cancel_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _end_connection(self, status: int) -> None:
        """Send an error, unless a response is under way, and close the connection."""
        if self._ended or self.transport.is_closing():
            return
        self._ended = True
        self._cancel_timeout()
        if self._answering:
            self.transport.close()
            return
        self.transport.write(_error_response(status, self._date.get()))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_HANG_UP_S, self.transport.abort)


def _path_of(target: bytes) -> bytes:
    """Return the path of a request target, with repeated slashes replaced by one.

    Raises:
        httptools.HttpParserError: there is none.
    """
    if target.startswith(b"/") and b"//" not in target and b"#" not in target:
        return target
    url = _SLASHES.sub(b"/", _ORIGIN.sub(b"", target, count=1) or b"/")
    path: bytes = httptools.parse_url(url).path
    return path


def _error_response(status: int, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return an error response for clients of both paths, since the path may be unknown."""
    phrase = _PHRASES[status]
    code = phrase.lower().replace(" ", "_")
    body = json.dumps({"status": status, "code": code, "message": phrase, "detail": phrase})
    retry = f"retry-after: {_RETRY_AFTER_S}\r\n" if status == 503 else ""
    defaults = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in default_headers)
    return (
        f"HTTP/1.1 {status} {phrase}\r\n{defaults}{retry}connection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()

"""The response to one HTTP request, whose head is written together with the start of its body.

uvicorn writes them apart: two system calls and two packets, a third of the CPU of a short answer.
It also updates the `Date` header ten times a second, even without any request.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from stagecast.asgi import TIMED

_WITHOUT_BODY = (204, 304)


class DateHeader:
    """The `Date` header, made once a second at most."""

    def __init__(self) -> None:
        self._second = 0
        self._headers: list[tuple[bytes, bytes]] = []

    def get(self) -> list[tuple[bytes, bytes]]:
        """Return it as a list of headers."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._headers = [(b"date", formatdate(second, usegmt=True).encode())]
        return self._headers


class ResponseCycle(RequestResponseCycle):
    """Sends responses whose length is known, and timed ones; others as uvicorn does, in chunks.

    Attributes:
        timed: whether the application limits how long its client may not read.
    """

    timed = False
    _head = b""
    _known_length = False

    async def send(self, message: Any) -> None:  # noqa: ANN401 - as in uvicorn
        """Send a part of the response."""
        if not self.response_started and message["type"] == "http.response.start":
            self._known_length = _has_length(message)
            self.timed = message.get(TIMED, False)
        if self.timed:
            await self._send_timed(message)
            return
        if not self._known_length:
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._start(message["status"], message["headers"])
        elif self.response_complete:
            raise RuntimeError("the response is complete")
        else:
            self._write(message.get("body", b""), more=message.get("more_body", False))

    async def _send_timed(self, message: Any) -> None:  # noqa: ANN401 - as in uvicorn
        """Write a part at once; then wait until the client has read enough, unless it is the last.

        HTTP/1.0 has no chunks: there the end of the connection is the end of the body.
        """
        if self.disconnected:
            return
        chunked = self.scope["http_version"] != "1.0"
        if not self.response_started:
            headers = [(b"transfer-encoding", b"chunked")] if chunked else []
            self._start(message["status"], [*message["headers"], *headers])
            self.transport.write(self._head)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n" * (
                not more
            )
        self.transport.write(body)
        if not more:
            self._complete()
        elif self.flow.write_paused:
            await self.flow.drain()

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        lines = [STATUS_LINE[status]]
        for name, value in (*self.default_headers, *headers):
            if b"\n" in value or b"\r" in value:
                raise RuntimeError(f"invalid value of header {name!r}")
            if name == b"content-length":
                self.expected_content_length = int(value)
            lines += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)
        self.response_started = True
        self.waiting_for_100_continue = False
        if self.scope["method"] == "HEAD" or status in _WITHOUT_BODY:
            self.expected_content_length = 0

    def _write(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            body = b""
        self.expected_content_length -= len(body)
        if self.expected_content_length < 0 or (self.expected_content_length and not more):
            raise RuntimeError("the response does not have the length that its head says")
        head, self._head = self._head, b""
        self.transport.write(head + body)
        if not more:
            self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _has_length(start: Any) -> bool:  # noqa: ANN401 - as in uvicorn
    """Return whether a response says how long it is, and leaves the connection to the server."""
    names = [name for name, _ in start["headers"]]
    known = b"content-length" in names or start["status"] in _WITHOUT_BODY
    return known and b"connection" not in names and b"transfer-encoding" not in names

"""A client that polls on persistent connections, and hardly parses the answers.

An answer that does not change always has the same length, so its end is found by counting bytes.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import cast

from stagecast.config import split_address

_CONNECTIONS = 8
_TIMEOUT_S = 30
_STATUS_BYTES = len(b"HTTP/1.1 200")


@dataclass(frozen=True, kw_only=True, slots=True)
class Poll:
    """A request, and the server's answer to it."""

    address: str
    request: bytes
    answer: bytes
    body_bytes: int
    etag: str


async def try_poll(address: str, target: str, *, etag: str = "") -> Poll:
    """Send the request once; with an ETag, as a conditional one."""
    condition = f"If-None-Match: {etag}\r\n" if etag else ""
    request = f"GET {target} HTTP/1.1\r\nHost: {address}\r\n{condition}\r\n".encode()
    async with asyncio.timeout(_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(*split_address(address))
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = (line.partition(": ") for line in head.decode().split("\r\n")[1:-2])
        headers = {name.lower(): value for name, _, value in fields}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        writer.close()
        await writer.wait_closed()
    return Poll(
        address=address,
        request=request,
        answer=head + body,
        body_bytes=len(body),
        etag=headers.get("etag", ""),
    )


async def poll_for(seconds: float, poll: Poll) -> int:
    """Poll for so many seconds, as often as possible, and return the number of answers."""
    loop = asyncio.get_running_loop()
    end = time.perf_counter() + seconds
    pollers = [_Poller(poll, end) for _ in range(_CONNECTIONS)]
    async with asyncio.timeout(seconds + _TIMEOUT_S):
        for poller in pollers:

            def same(it: _Poller = poller) -> _Poller:
                return it

            await loop.create_connection(same, *split_address(poll.address))
        return sum(await asyncio.gather(*(poller.answers for poller in pollers)))


class _Poller(asyncio.Protocol):
    """One connection; `answers` is their number until the end of the time."""

    def __init__(self, poll: Poll, end: float) -> None:
        self.answers: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._poll = poll
        self._status = poll.answer[:_STATUS_BYTES]
        self._end = end
        self._count = 0
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        if self._missing == len(self._poll.answer) and not data.startswith(self._status):
            self._transport.abort()
        self._missing -= len(data)
        if self._missing == 0:
            self._count += 1
            self._continue()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answers.done():
            self.answers.set_exception(error or ConnectionError("the answer has changed"))

    def _continue(self) -> None:
        if time.perf_counter() < self._end:
            self._send()
        else:
            self.answers.set_result(self._count)
            self._transport.close()

    def _send(self) -> None:
        self._missing = len(self._poll.answer)
        self._transport.write(self._poll.request)

"""A persistent HTTP/1.1 connection for polls, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from stagecast.config import split_address

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ETAG = re.compile(rb"\r\netag: *([^\r]+)", re.IGNORECASE)
_TIMEOUT_S = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The answer to a poll."""

    status: int
    body: bytes
    etag: str


class Poller:
    """Polls a target again and again."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._request = request

    async def poll(self) -> Answer:
        """Send the request and return the answer."""
        self._writer.write(self._request)
        async with asyncio.timeout(_TIMEOUT_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length, etag = _LENGTH.search(head), _ETAG.search(head)
            body = await self._reader.readexactly(int(length[1]) if length else 0)
        return Answer(status=int(head[9:12]), body=body, etag=etag[1].decode() if etag else "")

    async def repeat(self, polls: int) -> None:
        """Poll so many times."""
        for _ in range(polls):
            await self.poll()


@contextlib.asynccontextmanager
async def polling(address: str, target: str, *headers: str) -> AsyncIterator[Poller]:
    """Be connected to a server during the block."""
    lines = (f"GET {target} HTTP/1.1", f"Host: {address}", *headers, "", "")
    reader, writer = await asyncio.open_connection(*split_address(address))
    try:
        yield Poller(reader, writer, "\r\n".join(lines).encode())
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

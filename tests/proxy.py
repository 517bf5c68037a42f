"""A TCP proxy between a client and a server that injects network faults on demand."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator

_CHUNK = 1 << 16
_TRICKLE = 16  # bytes at a time


class Trouble(enum.Enum):
    """What a proxy does to its connections."""

    CUT = "cut"
    """Aborts all connections."""
    DELAY = "delayed"
    """Forwards everything late."""
    BLACK_HOLE = "black hole"
    """Forwards nothing, and aborts the connections afterwards."""
    TRICKLE = "trickle"
    """Forwards a few bytes at a time."""


class Proxy:
    """Forwards connections to an address; its own is `address`."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._trouble: Trouble | None = None
        self._over = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self.address = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        """Listen during the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            self._over.set()
            self.cut()
            await server.wait_closed()

    def cut(self) -> None:
        """Abort all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def trouble(self, kind: Trouble, seconds: float) -> None:
        """Inject a fault for so many seconds."""
        if kind is Trouble.CUT:
            return self.cut()
        self._trouble = kind
        self._over.clear()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._trouble = None
            self._over.set()
            if kind is Trouble.BLACK_HOLE:
                self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            onward, target = await asyncio.open_connection(self._host, int(self._port))
            self._writers |= {writer, target}
            try:
                await asyncio.gather(self._pump(reader, target), self._pump(onward, writer))
            finally:
                target.transport.abort()
                self._writers -= {writer, target}
        writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(_CHUNK):
                await self._forward(chunk, writer)
        finally:
            writer.transport.abort()  # the end of one direction ends both

    async def _forward(self, chunk: bytes, writer: asyncio.StreamWriter) -> None:
        if self._trouble is Trouble.BLACK_HOLE:
            await self._over.wait()
        if self._trouble is Trouble.DELAY:
            await asyncio.sleep(0.1)
        while self._trouble is Trouble.TRICKLE and chunk:
            writer.write(chunk[:_TRICKLE])
            await writer.drain()
            chunk = chunk[_TRICKLE:]
            await asyncio.sleep(0.001)
        writer.write(chunk)
        await writer.drain()

"""Raw HTTP/2 frames, for requests that no gRPC client would send."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import struct
from collections.abc import AsyncIterator
from typing import cast

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_WINDOW_UPDATE = 8
_NO_SETTINGS = bytes((0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0))
_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE = 3, 4
_ACK = 1
_END_HEADERS = 4


class RawConnection:
    """A connection that starts calls and reads only on demand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._stream = -1

    def begin(self, method: str, sent: bytes = b"", **metadata: str) -> int:
        """Start a call, send a part of its request, and return its stream."""
        self._stream += 2
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
            **{name.replace("_", "-"): value for name, value in metadata.items()},
        }
        block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields.items())
        self._send(_HEADERS, _END_HEADERS, self._stream, block)
        if sent:
            self._send(_DATA, 0, self._stream, sent)
        return self._stream

    async def read_until_reset(self, *streams: int) -> None:
        """Read until the server has reset all of these streams."""
        left = set(streams)
        while left:
            kind, stream = await self._read_and_acknowledge()
            if kind == _RST_STREAM:
                left.discard(stream)

    async def read_until_closed(self) -> None:
        """Read until the server has closed the connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self._read_and_acknowledge()

    async def read_max_streams(self) -> int:
        """Read the server's limit of concurrent calls per connection."""
        kind, _, _, payload = await self._read_frame()
        assert kind == _SETTINGS, "the first frame"
        settings = dict(struct.iter_unpack(">HI", payload))
        return int(settings[_MAX_CONCURRENT_STREAMS])

    async def ping(self) -> None:
        """Send a ping, and wait for its answer."""
        self._send(_PING, 0, 0, bytes(8))
        while True:
            kind, flags, _, payload = await self._read_frame()
            assert kind != _GOAWAY, payload[8:].decode()
            if kind == _PING and flags & _ACK:
                return

    def open_window(self, stream: int, size: int) -> None:
        """Allow the server to send `size` more bytes of an answer."""
        self._send(_WINDOW_UPDATE, 0, stream, size.to_bytes(4))

    async def _read_and_acknowledge(self) -> tuple[int, int]:
        """Read a frame and return its kind and its stream."""
        kind, flags, stream, payload = await self._read_frame()
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            # Otherwise the server considers the connection dead after a while.
            self._send(kind, _ACK, 0, payload if kind == _PING else b"")
        return kind, stream

    async def _read_frame(self) -> tuple[int, int, int, bytes]:
        """Read a frame and return its kind, flags, stream and payload."""
        head = await self._reader.readexactly(9)
        payload = await self._reader.readexactly(int.from_bytes(head[:3]))
        return head[3], head[4], int.from_bytes(head[5:]), payload

    def _send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        head = len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4)
        self._writer.write(head + payload)


def send_burst(peer: socket.socket, method: str, calls: int) -> None:
    """Start many calls on a new connection, and return when the server has read all of them."""
    sent = io.BytesIO()
    connection = RawConnection(asyncio.StreamReader(), cast("asyncio.StreamWriter", sent))
    for _ in range(calls):
        connection.begin(method)
    connection._send(_PING, 0, 0, bytes(8))
    peer.sendall(_PREFACE + _NO_SETTINGS + sent.getvalue())
    with peer.makefile("rb") as received:
        kind = flags = 0
        while (kind, flags) != (_PING, _ACK):
            head = received.read(9)
            kind, flags = head[3], head[4]
            received.read(int.from_bytes(head[:3]))


@contextlib.asynccontextmanager
async def raw_connection(
    address: str, *, window: int | None = None
) -> AsyncIterator[RawConnection]:
    """Connect to a server during the block.

    Args:
        address: of the server.
        window: the flow-control window of each answer, in bytes.
    """
    reader, writer = await _connect(address)
    connection = RawConnection(reader, writer)
    writer.write(_PREFACE)
    settings = b"" if window is None else struct.pack(">HI", _INITIAL_WINDOW_SIZE, window)
    connection._send(_SETTINGS, 0, 0, settings)
    try:
        yield connection
    finally:
        writer.close()


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), port)


def _text(text: str) -> bytes:
    """Encode a text as a HPACK literal; surrogates stand for bytes that are not UTF-8."""
    content = text.encode(errors="surrogateescape")
    assert len(content) < 127
    return bytes((len(content),)) + content

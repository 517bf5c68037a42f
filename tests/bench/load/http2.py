"""gRPC calls from bytes to bytes on hand-written HTTP/2: a client that costs next to nothing.

A client of a library takes more CPU for a message than the server that is measured. This one
decodes nothing: it counts messages, and hands over the bytes of those that somebody wants to see.
Response headers are ignored; a call without an answer counts as failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import cast

from stagecast.config import split_address

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_HEAD_BYTES, _PREFIX_BYTES = 9, 5
_MAX_WINDOW = 2**31 - 1
_FIRST_WINDOW = 65_535
_MAX_FRAME = 16_384
_CANCEL = struct.pack(">I", 8)
_TAIL_BYTES = 16
_TIMEOUT_S = 180

# HPACK: `:method: POST` and `:scheme: http` of the static table, the table's end, a new entry.
_POST_HTTP, _STATIC_ENTRIES, _INDEXED, _NEW_ENTRY = b"\x83\x86", 61, 0x80, b"\x40"


class CallFailedError(Exception):
    """The call ended without an answer, or its connection was closed."""

    @classmethod
    def of(cls, path: str, stream: Stream) -> CallFailedError:
        """Return the error of a call, with the message that the server has sent."""
        _, _, rest = stream.trailers.partition(b"grpc-message")
        length = rest[0] if rest else 0
        message = rest[1 : length + 1].decode(errors="replace")
        return cls(f"{path} has failed: {message or 'no message'}")


class Stream:
    """A call.

    Attributes:
        messages: how many have arrived, in whole.
        size: their bytes, with prefixes.
        last: the newest message, of a stream that keeps it.
        tail: the last bytes that have arrived.
        trailers: the encoded headers at the end; the message of an error can be read in them.
    """

    __slots__ = (
        *("_head", "_keep", "_missing", "_parts", "connection", "ended", "last", "messages"),
        *("number", "on_end", "on_message", "size", "started", "tail", "trailers"),
    )

    def __init__(
        self,
        connection: Connection,
        number: int,
        *,
        keep: bool,
        on_message: Callable[[Stream], None] | None,
        on_end: Callable[[Stream], None] | None,
    ) -> None:
        self.connection = connection
        self.number = number
        self.on_message = on_message
        self.on_end = on_end
        self.messages = self.size = 0
        self.last = self.tail = self.trailers = b""
        self.started = self.ended = False
        self._keep = keep
        self._head = b""
        self._missing = 0
        self._parts: list[bytes] = []

    def cancel(self) -> None:
        """Tell the server that nobody reads on."""
        if not self.ended:
            self.on_end = None
            self.connection.write(_frame(_RST_STREAM, 0, self.number, _CANCEL))
            self.end()

    def receive(self, payload: bytes) -> None:
        """Count the messages in the payload of a DATA frame."""
        self.size += len(payload)
        position = 0
        while position < len(payload):
            if not self._missing:
                part = payload[position : position + _PREFIX_BYTES - len(self._head)]
                position += len(part)
                self._head += part
                if len(self._head) < _PREFIX_BYTES:
                    return
                self._missing = int.from_bytes(self._head[1:])
                self._head = b""
            part = payload[position : position + self._missing]
            position += len(part)
            self._missing -= len(part)
            self.tail = part[-_TAIL_BYTES:] if len(part) >= _TAIL_BYTES else self.tail + part
            if self._keep:
                self._parts.append(part)
            if not self._missing:
                self._complete()

    def _complete(self) -> None:
        self.messages += 1
        if self._keep:
            self.last = b"".join(self._parts)
            self._parts.clear()
        if self.on_message:
            self.on_message(self)

    def end(self) -> None:
        """End it, by either side."""
        self.ended = True
        self.connection.forget(self)
        if self.on_end:
            self.on_end(self)


class Connection(asyncio.Protocol):
    """One connection, with any number of calls."""

    def __init__(self, authority: str) -> None:
        self._authority = authority
        self._streams: dict[int, Stream] = {}
        self._next = 1
        self._rest = b""
        self._received = 0
        self._window = _FIRST_WINDOW
        self._queue: deque[tuple[bytes, int]] = deque()  # with the size that counts for the window
        self._header_table: dict[tuple[bytes, bytes], int] = {}
        self.lost: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Announce windows so large that they never hold the server up."""
        self._transport = cast(asyncio.Transport, transport)
        settings = struct.pack(">HIHI", 2, 0, 4, _MAX_WINDOW)  # no push, initial window
        self.write(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, settings)
            + _window_update(_MAX_WINDOW - _FIRST_WINDOW)
        )

    def open(
        self,
        path: str,
        request: bytes,
        *,
        keep: bool = True,
        half_open: bool = False,
        on_message: Callable[[Stream], None] | None = None,
        on_end: Callable[[Stream], None] | None = None,
    ) -> Stream:
        """Make a call; one that is `half_open` could send more.

        The request must fit the window of a new stream.
        """
        if self.lost:
            raise self.lost
        number, self._next = self._next, self._next + 2
        stream = Stream(self, number, keep=keep, on_message=on_message, on_end=on_end)
        self._streams[number] = stream
        message = b"\x00" + len(request).to_bytes(4) + request
        frames = [_frame(_HEADERS, _END_HEADERS, number, self._headers(path))]
        for start in range(0, len(message), _MAX_FRAME):
            last = start + _MAX_FRAME >= len(message) and not half_open
            part = message[start : start + _MAX_FRAME]
            frames.append(_frame(_DATA, _END_STREAM if last else 0, number, part))
        self._queue.append((b"".join(frames), len(message)))
        self._flush()
        return stream

    def write(self, data: bytes) -> None:
        """Send frames that no window limits."""
        self._transport.write(data)

    def forget(self, stream: Stream) -> None:
        """Forget a stream that has ended."""
        self._streams.pop(stream.number, None)

    def close(self) -> None:
        """Close the connection, and with it all calls."""
        self._streams.clear()
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read the frames that are complete."""
        if self._rest:
            data = self._rest + data
        position = 0
        while len(data) - position >= _HEAD_BYTES:
            end = position + _HEAD_BYTES + int.from_bytes(data[position : position + 3])
            if end > len(data):
                break
            number = int.from_bytes(data[position + 5 : position + 9]) & _MAX_WINDOW
            payload = data[position + _HEAD_BYTES : end]
            self._read(data[position + 3], data[position + 4], number, payload)
            position = end
        self._rest = data[position:]

    def connection_lost(self, error: Exception | None) -> None:
        """End all calls."""
        self.lost = error or ConnectionError("the server has closed the connection")
        for stream in list(self._streams.values()):
            stream.end()

    def _read(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        stream = self._streams.get(number)
        if kind == _DATA:
            self._count(len(payload))
            if stream:
                stream.receive(payload)
        elif kind == _HEADERS and stream and not stream.started:
            stream.started = True
            if stream.on_message:
                stream.on_message(stream)
        elif kind == _RST_STREAM and stream:
            stream.end()
        elif kind == _SETTINGS and not flags & _ACK:
            self.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW_UPDATE and number == 0:
            self._window += int.from_bytes(payload)
            self._flush()
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM and stream and not stream.ended:
            stream.trailers = payload if kind == _HEADERS else b""
            stream.end()

    def _count(self, size: int) -> None:
        """Let the server send on long before the window of the connection is used up."""
        self._received += size
        if self._received > _MAX_WINDOW // 2:
            self.write(_window_update(self._received))
            self._received = 0

    def _flush(self) -> None:
        """Send the requests that fit the server's window."""
        while self._queue and self._queue[0][1] <= self._window:
            frames, size = self._queue.popleft()
            self._window -= size
            self.write(frames)

    def _headers(self, path: str) -> bytes:
        """Encode the headers; each that was sent before is one byte."""
        block = bytearray(_POST_HTTP)
        for header in (
            (b":path", path.encode()),
            (b":authority", self._authority.encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        ):
            number = self._header_table.get(header)
            if number is None:
                self._header_table[header] = len(self._header_table)
                block += _NEW_ENTRY + b"".join(bytes((len(text),)) + text for text in header)
            else:
                block.append(_INDEXED | _STATIC_ENTRIES + len(self._header_table) - number)
        return bytes(block)


@contextlib.asynccontextmanager
async def open_connections(address: str, count: int) -> AsyncIterator[list[Connection]]:
    """Be connected to a server so many times during the block."""
    loop = asyncio.get_running_loop()
    host, port = split_address(address)
    opened: list[Connection] = []
    try:
        for _ in range(count):
            _, connection = await loop.create_connection(lambda: Connection(address), host, port)
            opened.append(connection)
        yield opened
    finally:
        for connection in opened:
            connection.close()


@contextlib.asynccontextmanager
async def open_connection(address: str) -> AsyncIterator[Connection]:
    """Be connected to a server during the block."""
    async with open_connections(address, 1) as [connection]:
        yield connection


async def call(connection: Connection, path: str, request: bytes) -> bytes:
    """Make a call and return its answer.

    Raises:
        CallFailedError: it has none.
    """
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def end(stream: Stream) -> None:
        if answer.done():
            return
        if stream.messages:
            answer.set_result(stream.last)
        else:
            answer.set_exception(CallFailedError.of(path, stream))

    connection.open(path, request, on_end=end)
    async with asyncio.timeout(_TIMEOUT_S):
        return await answer


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return struct.pack(">IBBI", len(payload), kind, flags, number)[1:] + payload


def _window_update(size: int) -> bytes:
    return _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", size))

"""Calls in flight, and streams that are waited for together."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from tests.bench.load.http2 import CallFailedError, Connection, Stream, open_connections
from tests.bench.rounds import Sample, Stopwatch

_TIMEOUT_S = 180


async def drive(
    connections: Sequence[Connection],
    path: str,
    requests: Iterable[bytes],
    *,
    in_flight: int,
    seconds: float = math.inf,
) -> list[bytes]:
    """Keep calls in flight until there are no more requests or the time is over.

    Returns:
        The answers, in the order of their arrival.
    """
    driver = _Driver(path, requests, time.perf_counter() + seconds)
    for number in range(in_flight):
        driver.send(connections[number % len(connections)])
    async with asyncio.timeout(_TIMEOUT_S):
        return await driver.answers


async def drive_for(
    seconds: float,
    pid: int,
    connections: Sequence[Connection],
    path: str,
    request: bytes,
    *,
    in_flight: int,
) -> Sample:
    """Repeat a call for so many seconds, and measure the server process."""
    stopwatch = Stopwatch(pid)
    requests = itertools.repeat(request)
    answers = await drive(connections, path, requests, in_flight=in_flight, seconds=seconds)
    return stopwatch.stop(len(answers))


class _Driver:
    """Sends the next request on a connection as soon as one is answered there."""

    def __init__(self, path: str, requests: Iterable[bytes], end: float) -> None:
        self.answers: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        self._path = path
        self._requests = iter(requests)
        self._end = end
        self._received: list[bytes] = []
        self._open = 0

    def send(self, connection: Connection) -> None:
        request = next(self._requests, None) if time.perf_counter() < self._end else None
        if request is not None:
            self._open += 1
            connection.open(self._path, request, on_end=self._receive)
        elif not self._open and not self.answers.done():
            self.answers.set_result(self._received)

    def _receive(self, stream: Stream) -> None:
        self._open -= 1
        if self.answers.done():
            return
        if not stream.messages:
            self.answers.set_exception(CallFailedError.of(self._path, stream))
            return
        self._received.append(stream.last)
        self.send(stream.connection)


class Streams:
    """Streams that are waited for together."""

    def __init__(self) -> None:
        self.all: list[Stream] = []
        self._holds: Callable[[Stream], bool] = lambda _: True
        self._missing: set[Stream] = set()
        self._complete: asyncio.Future[float] | None = None

    def open(
        self,
        connections: Sequence[Connection],
        path: str,
        request: bytes,
        count: int,
        *,
        keep: bool = False,
        half_open: bool = False,
    ) -> None:
        """Open as many streams; only the first keeps its messages, unless all do."""
        for number in range(count):
            stream = connections[number % len(connections)].open(
                path,
                request,
                keep=keep or number == 0,
                half_open=half_open,
                on_message=self._receive,
                on_end=self._receive,
            )
            self.all.append(stream)

    def expect(self, holds: Callable[[Stream], bool]) -> asyncio.Future[float]:
        """Wait until a condition holds for each; the result is when it did, by `perf_counter`."""
        self._holds = holds
        self._missing = {stream for stream in self.all if not holds(stream)}
        self._complete = asyncio.get_running_loop().create_future()
        if not self._missing:
            self._complete.set_result(time.perf_counter())
        return self._complete

    def expect_messages(self, count: int) -> asyncio.Future[float]:
        """Wait until each has received so many messages in all."""
        return self.expect(lambda stream: stream.messages >= count)

    def cancel(self) -> None:
        """Hang up."""
        for stream in self.all:
            stream.cancel()

    @property
    def messages(self) -> int:
        """How many messages have arrived."""
        return sum(stream.messages for stream in self.all)

    @property
    def size(self) -> int:
        """The bytes of all messages."""
        return sum(stream.size for stream in self.all)

    def _receive(self, stream: Stream) -> None:
        if stream not in self._missing:
            return
        if self._holds(stream):
            self._missing.discard(stream)
            if not self._missing and self._complete and not self._complete.done():
                self._complete.set_result(time.perf_counter())
        elif stream.ended and self._complete and not self._complete.done():
            self._complete.set_exception(CallFailedError.of("a stream", stream))


@contextlib.asynccontextmanager
async def watching(
    address: str,
    path: str,
    request: bytes,
    watches: int,
    *,
    connections: int,
    keep: bool = False,
    half_open: bool = False,
) -> AsyncIterator[Streams]:
    """Have so many streams open during the block; it begins when the server has accepted all."""
    streams = Streams()
    async with open_connections(address, min(connections, watches)) as opened:
        streams.open(opened, path, request, watches, keep=keep, half_open=half_open)
        async with asyncio.timeout(_TIMEOUT_S):
            await streams.expect(lambda stream: stream.started)
        yield streams

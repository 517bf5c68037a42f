"""Watching clients, in a process of their own so that they are not measured.

They count messages and decode none; only the messages of the first are decoded at the end, to count
the transitions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from grpc import aio

from stagecast.runtime.event_loop import run
from stagecast.v1 import status_service_pb2 as s
from tests.bench.peer import Peer, answer_lines
from tests.bench.sides import Side, connect
from tests.grpc_calls import unary_stream

WATCH = "/stagecast.v1.StatusService/WatchBatch"

_PER_CONNECTION = 50

_Stream = aio.UnaryStreamCall[bytes, bytes]


async def open_streams(crowd: Peer, side: Side, method: str, request: bytes, watches: int) -> None:
    """Let the watchers watch a server."""
    await crowd.ask(
        do="open", address=side.address, method=method, request=request.hex(), watches=watches
    )


class _Watchers:
    """The commands of the process; `do` of a question names the method."""

    def __init__(self) -> None:
        self._channels: list[aio.Channel] = []
        self._streams: list[_Stream] = []
        self._awaited: list[asyncio.Task[float]] = []

    async def answer(self, question: dict[str, Any]) -> object:
        return await getattr(self, question.pop("do"))(**question)

    async def open(self, address: str, method: str, request: str, watches: int) -> None:
        """Open so many streams and wait until the server has accepted each."""
        self._method = method
        connections = -(-watches // _PER_CONNECTION)
        self._channels = [connect(address) for _ in range(connections)]
        self._streams = [
            unary_stream(self._channels[n % connections], method)(bytes.fromhex(request))
            for n in range(watches)
        ]
        await asyncio.gather(*(stream.initial_metadata() for stream in self._streams))

    async def expect(self) -> None:
        """Start to wait for one message on each stream."""
        self._awaited = [asyncio.create_task(_arrival_time(stream)) for stream in self._streams]
        await asyncio.sleep(0)

    async def arrival_times(self) -> list[float]:
        """Return when those messages arrived, by `perf_counter`."""
        return await asyncio.gather(*self._awaited)

    async def drain(self) -> dict[str, Any]:
        """Read every stream to its end and return what all received."""
        first, others = await asyncio.gather(
            _collect(self._streams[0]), asyncio.gather(*map(_count, self._streams[1:]))
        )
        ended_s = time.perf_counter()
        for channel in self._channels:
            await channel.close()
        return {
            "messages": len(first) + sum(messages for messages, _ in others),
            "bytes": sum(map(len, first)) + sum(size for _, size in others),
            "transitions": _transitions(first) if self._method == WATCH else 0,
            "ended_s": ended_s,
        }


async def _arrival_time(stream: _Stream) -> float:
    await stream.read()
    return time.perf_counter()


async def _collect(stream: _Stream) -> list[bytes]:
    return [message async for message in _messages(stream)]


async def _count(stream: _Stream) -> tuple[int, int]:
    messages = size = 0
    async for message in _messages(stream):
        messages += 1
        size += len(message)
    return messages, size


async def _messages(stream: _Stream) -> AsyncIterator[bytes]:
    """Yield the rest of a stream; `async for` over a stream cannot be mixed with `read`."""
    while isinstance(message := await stream.read(), bytes):
        yield message


def _transitions(messages: list[bytes]) -> int:
    return sum(len(s.WatchBatchResponse.FromString(message).transitions) for message in messages)


if __name__ == "__main__":
    run(answer_lines(_Watchers().answer))

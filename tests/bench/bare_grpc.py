"""The floor of gRPC: a `grpc.aio` server that only answers calls and writes to streams.

It decodes nothing, and all streams get the same bytes from one list.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc import aio

from stagecast.runtime.event_loop import run
from tests.bench.peer import answer_lines

NOTHING = "/bench.Bare/Nothing"
WATCH = "/bench.Bare/Watch"
PUBLISH = "/bench.Bare/Publish"

# How many messages, of how many bytes each, and whether the streams end after them.
_PUBLISHED = struct.Struct(">II?")

_Context = aio.ServicerContext[Any, Any]


@dataclass
class _Tail:
    """The messages for all open streams."""

    messages: list[bytes] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False


class _Bare:
    def __init__(self) -> None:
        self._tail = _Tail()

    async def nothing(self, _request: bytes, _context: _Context) -> bytes:
        return b""

    async def watch(self, _request: bytes, context: _Context) -> None:
        tail, cursor = self._tail, 0
        await context.send_initial_metadata(())
        while cursor < len(tail.messages) or not tail.over:
            if cursor == len(tail.messages):
                await tail.news.wait()
            while cursor < len(tail.messages):
                await context.write(tail.messages[cursor])
                cursor += 1

    async def publish(self, request: bytes, _context: _Context) -> bytes:
        count, size, over = _PUBLISHED.unpack(request)
        tail = self._tail
        tail.messages += [bytes(size)] * count
        tail.over = over
        tail.news.set()
        tail.news = asyncio.Event()
        if over:
            self._tail = _Tail()
        return b""


def published(count: int, size: int, *, over: bool) -> bytes:
    """Return the request that makes the server write so many messages to each stream."""
    return _PUBLISHED.pack(count, size, over)


async def _serve() -> None:
    bare = _Bare()
    # A burst of streams waits instead of being refused, as in stagecast.
    server = aio.server(options=(("grpc.server.max_pending_requests", 20_000),))
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Nothing": grpc.unary_unary_rpc_method_handler(bare.nothing),
        "Watch": grpc.unary_stream_rpc_method_handler(bare.watch),
        "Publish": grpc.unary_unary_rpc_method_handler(bare.publish),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Bare", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def address(_question: dict[str, Any]) -> str:
        return f"127.0.0.1:{port}"

    await answer_lines(address)
    await server.stop(0)


if __name__ == "__main__":
    run(_serve())

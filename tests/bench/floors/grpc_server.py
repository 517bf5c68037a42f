"""The floor of gRPC: a `grpc.aio` server that answers calls and writes constants to streams.

It decodes nothing, and all streams get the same bytes from one list.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from typing import Any

import grpc
import uvloop
from grpc import aio

from tests.bench.peer import answer_lines

ECHO = "/floor.Grpc/Echo"
ANSWER = "/floor.Grpc/Answer"
WATCH = "/floor.Grpc/Watch"
PUBLISH = "/floor.Grpc/Publish"
HEARTBEATS = "/floor.Grpc/Heartbeats"

# How many messages, of how many bytes each.
_PUBLISHED = struct.Struct(">II")

_Context = aio.ServicerContext[Any, Any]


def published(count: int, size: int) -> bytes:
    """Return the request that makes the server write so many messages to each stream."""
    return _PUBLISHED.pack(count, size)


@dataclass
class Floor:
    """The messages for all streams; `answer` is that of `Answer`."""

    answer: bytes = b""
    messages: list[bytes] = field(default_factory=list)
    published: asyncio.Event = field(default_factory=asyncio.Event)

    async def echo(self, request: bytes, _context: _Context) -> bytes:
        return request

    async def send_answer(self, _request: bytes, _context: _Context) -> bytes:
        return self.answer

    async def watch(self, _request: bytes, context: _Context) -> None:
        cursor = len(self.messages)
        await context.send_initial_metadata(())
        while True:
            while cursor < len(self.messages):
                await context.write(self.messages[cursor])
                cursor += 1
            await self.published.wait()

    async def publish(self, request: bytes, _context: _Context) -> bytes:
        count, size = _PUBLISHED.unpack(request)
        self.messages += [bytes(size)] * count
        self.published.set()
        self.published = asyncio.Event()
        return request

    async def send_heartbeats(self, request: bytes, context: _Context) -> None:
        await context.send_initial_metadata(())
        while True:
            await asyncio.sleep(request[0])
            await context.write(request)

    def methods(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        return {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Answer": grpc.unary_unary_rpc_method_handler(self.send_answer),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch),
            "Publish": grpc.unary_unary_rpc_method_handler(self.publish),
            "Heartbeats": grpc.unary_stream_rpc_method_handler(self.send_heartbeats),
        }


async def start(floor: Floor) -> tuple[aio.Server, str]:
    """Start a server; return it and its address."""
    # A burst of streams waits instead of being refused, as in stagecast.
    server = aio.server(options=(("grpc.server.max_pending_requests", 20_000),))
    handler = grpc.method_handlers_generic_handler("floor.Grpc", floor.methods())
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


async def _serve() -> None:
    floor = Floor()
    server, address = await start(floor)

    async def answer(question: dict[str, Any]) -> str:
        """Set the size of the answer, if there is one; return the address."""
        floor.answer = bytes(question.get("size", 0))
        return address

    await answer_lines(answer)
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(_serve())

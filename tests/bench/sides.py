"""The two gRPC servers that are compared, stagecast's and the bare one, and the calls on them.

Requests are encoded before a measurement, and answers decoded after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from grpc import aio

from tests.bench import peer
from tests.grpc_calls import unary_unary
from tests.process import running

REPORT = "/stagecast.v1.ReportService/Report"

_TIMEOUT_S = 120

Call = Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """A server in a process of its own."""

    address: str
    pid: int
    channel: aio.Channel

    def call(self, method: str) -> Call:
        """Return a method that takes and returns bytes."""
        return unary_unary(self.channel, method)


@contextlib.asynccontextmanager
async def both(db: Path) -> AsyncIterator[tuple[Side, Side]]:
    """Run stagecast on a new file, and the bare server, during the block."""
    async with running(db) as server, peer.running("bare_grpc") as bare:
        bare_address = await bare.ask()
        async with connect(server.grpc) as channel, connect(bare_address) as bare_channel:
            yield (
                Side(address=server.grpc, pid=server.process.pid, channel=channel),
                Side(address=bare_address, pid=bare.pid, channel=bare_channel),
            )


def connect(address: str) -> aio.Channel:
    """Return a channel with a connection of its own."""
    return aio.insecure_channel(
        address,
        options=(("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)),
    )


async def drive(
    call: Call, requests: Iterable[bytes], *, in_flight: int, seconds: float
) -> list[bytes]:
    """Keep calls in flight until there are no more requests or the time is over.

    Returns:
        The answers.
    """
    end = time.perf_counter() + seconds
    waiting = iter(requests)
    answers: list[bytes] = []

    async def work() -> None:
        for request in waiting:
            answers.append(await call(request))
            if time.perf_counter() > end:
                return

    async with asyncio.timeout(_TIMEOUT_S), asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())
    return answers

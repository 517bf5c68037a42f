"""Lone events: calls that each make one message for every stream, with nothing else under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from tests.bench.floors import grpc_server
from tests.bench.load.batches import make_work
from tests.bench.load.calls import REPORT, WATCH
from tests.bench.load.http2 import Connection, call, open_connection
from tests.bench.load.in_flight import Streams, watching
from tests.bench.machine import cpu_s
from tests.watches.pipeline import STAGES

MESSAGE_BYTES = 340  # about the size of a message with one transition

_PAUSE_S, _PAUSE_OF_WATCH_S = 0.02, 0.0003
_TIMEOUT_S = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Lone:
    """The CPU of the server for an event, and the times until all streams had it."""

    cpu_s: float
    latencies_s: Sequence[float]


async def report_alone(pid: int, address: str, connections: int, events: int, watches: int) -> Lone:
    """Measure lone reports on a batch with so many watches."""
    async with open_connection(address) as connection:
        work = await make_work(connection, -(-events // len(STAGES)) + 1)
        async with watching(
            address, WATCH, work.watch(), watches, connections=connections
        ) as streams:
            # A resumed watch begins with a message at once, which is no event.
            await streams.expect_messages(1)
            requests = list(islice(work.by_stage(1), events))
            return await send_alone(pid, connection, REPORT, requests, streams)


async def write_alone(pid: int, address: str, connections: int, events: int, watches: int) -> Lone:
    """Measure the floor: calls that each have one message written to as many streams."""
    requests = [grpc_server.published(1, MESSAGE_BYTES)] * events
    async with (
        open_connection(address) as connection,
        watching(address, grpc_server.WATCH, b"", watches, connections=connections) as streams,
    ):
        return await send_alone(pid, connection, grpc_server.PUBLISH, requests, streams)


def pause_s(watches: int) -> float:
    """Return after how long no work of the last event is left."""
    return _PAUSE_S + _PAUSE_OF_WATCH_S * watches


async def send_alone(
    pid: int,
    connection: Connection,
    path: str,
    requests: Sequence[bytes],
    streams: Streams,
) -> Lone:
    """Make calls, each some time after the one before has reached all streams."""
    latencies: list[float] = []
    first = streams.messages // max(1, len(streams.all)) + 1
    cpu_before = cpu_s(pid)
    for number, request in enumerate(requests, start=first):
        began = time.perf_counter()
        reached = streams.expect_messages(number)
        async with asyncio.timeout(_TIMEOUT_S):
            await call(connection, path, request)
            latencies.append(await reached - began)
        await asyncio.sleep(pause_s(len(streams.all)))
    return Lone(cpu_s=(cpu_s(pid) - cpu_before) / len(requests), latencies_s=latencies)


async def cpu_of_delivery_us(measure: Callable[[int], Awaitable[Lone]], watches: int) -> float:
    """Return the CPU of one delivery: an event with watches, less an event without."""
    watched = await measure(watches)
    unwatched = await measure(0)
    return (watched.cpu_s - unwatched.cpu_s) / watches * 1e6

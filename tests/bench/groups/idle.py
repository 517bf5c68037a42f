"""An idle server: its CPU, with and without idle watches, and the memory of such a watch."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

from tests.bench.floors import grpc_server
from tests.bench.group import Part
from tests.bench.load.batches import make_work
from tests.bench.load.calls import WATCH
from tests.bench.load.http2 import open_connection
from tests.bench.load.in_flight import watching
from tests.bench.machine import cpu_s, memory_bytes
from tests.bench.rounds import interleave
from tests.bench.servers import Bench
from tests.bench.table import Figure, Row

_WATCHES = 1_000
_CONNECTIONS = 8
_HEARTBEAT_S = 5
_SETTLED_S = 1.0

_IDLE = Figure(
    name="Idle server, CPU", unit="% of a core", against="idle aio server", must=5, beyond=2
)
_WATCHED = Figure(
    name=f"Idle server with 1,000 watches, a heartbeat every {_HEARTBEAT_S} s, CPU",
    unit="% of a core",
    against="aio streams with the same heartbeats",
    must=2,
    beyond=1.3,
)
_MEMORY = Figure(
    name="Resident memory of an idle watch, own connection",
    unit="KiB",
    against="idle aio stream",
    must=1.2,
    beyond=1.1,
)


async def _measure_idle(bench: Bench) -> AsyncIterator[Row]:
    seconds = bench.effort.choose(quick=_HEARTBEAT_S, full=2 * _HEARTBEAT_S)
    async with bench.stagecast("idle") as server, bench.floor("grpc_server") as floor:
        pids = server.process.pid, floor.pid
        address = await floor.ask()
        async with open_connection(server.grpc) as connection:
            work = await make_work(connection, 5)
        yield _IDLE.row([await _shares(pids, seconds) for _ in range(bench.effort.rounds)])
        request = work.watch(heartbeat_s=_HEARTBEAT_S)
        heartbeat = bytes((_HEARTBEAT_S,)) * 180  # about as many bytes as ours
        async with (
            watching(server.grpc, WATCH, request, _WATCHES, connections=_CONNECTIONS),
            watching(
                address, grpc_server.HEARTBEATS, heartbeat, _WATCHES, connections=_CONNECTIONS
            ),
        ):
            yield _WATCHED.row([await _shares(pids, seconds) for _ in range(bench.effort.rounds)])


async def _shares(pids: tuple[int, int], seconds: int) -> tuple[float, float]:
    """Return how many per cent of a core both use, at the same time: neither disturbs the other."""
    await asyncio.sleep(_SETTLED_S)
    before = [cpu_s(pid) for pid in pids]
    await asyncio.sleep(seconds)
    ours, theirs = (
        100 * (cpu_s(pid) - start) / seconds for pid, start in zip(pids, before, strict=True)
    )
    return ours, theirs


async def _measure_memory(bench: Bench) -> AsyncIterator[Row]:
    # Memory is hardly given back, so each round has new servers.
    numbers = itertools.count()

    async def ours() -> float:
        async with bench.stagecast(f"memory-{next(numbers)}") as server:
            async with open_connection(server.grpc) as connection:
                work = await make_work(connection, 5)
            return await _memory_of_stream(server.process.pid, server.grpc, WATCH, work.watch())

    async def theirs() -> float:
        async with bench.floor("grpc_server") as floor:
            address = await floor.ask()
            return await _memory_of_stream(floor.pid, address, grpc_server.WATCH, b"")

    yield _MEMORY.row(await interleave(bench.effort.rounds, ours, theirs))


async def _memory_of_stream(pid: int, address: str, path: str, request: bytes) -> float:
    """Return the KiB of one of many streams."""
    async with watching(address, path, request, 10, connections=10):
        before = memory_bytes(pid)
        async with watching(address, path, request, _WATCHES, connections=_WATCHES):
            await asyncio.sleep(_SETTLED_S)
            return (memory_bytes(pid) - before) / _WATCHES / 1024


PARTS = (
    Part(figures=(_IDLE, _WATCHED), measure=_measure_idle),
    Part(figures=(_MEMORY,), measure=_measure_memory),
)

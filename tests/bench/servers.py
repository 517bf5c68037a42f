"""The servers that are compared, each on the core of servers: stagecast, a floor, etcd."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench import peer
from tests.bench.load.http2 import CallFailedError, call, open_connection
from tests.bench.machine import Machine, find_tool
from tests.bench.peer import Peer
from tests.bench.rounds import Effort
from tests.process import ServerProcess, environment, free_address, running

_TIMEOUT_S = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """What a group needs: a directory of its own, the machine, how much to do, and for results."""

    directory: Path
    machine: Machine
    effort: Effort
    results: Path

    @contextlib.asynccontextmanager
    async def stagecast(
        self, name: str, *options: str, both_cores: bool = False
    ) -> AsyncIterator[ServerProcess]:
        """Run stagecast on a file of that name during the block."""
        machine = self.machine
        async with contextlib.AsyncExitStack() as stack:
            with machine.on_both_cores() if both_cores else machine.on_server_core():
                server = await stack.enter_async_context(
                    running(self.directory / f"{name}.db", *options)
                )
            yield server

    @contextlib.asynccontextmanager
    async def floor(self, module: str) -> AsyncIterator[Peer]:
        """Run a module of `floors` during the block."""
        async with contextlib.AsyncExitStack() as stack:
            with self.machine.on_server_core():
                program = await stack.enter_async_context(peer.running(f"floors.{module}"))
                await program.ask(do="nothing")
            yield program

    @contextlib.asynccontextmanager
    async def etcd(self) -> AsyncIterator[str]:
        """Run etcd on a new directory, with fsync as it is by default; yield its address.

        Raises:
            NotMeasuredError: it is not installed.
        """
        program = find_tool("etcd")
        client, cluster = f"http://{free_address()}", f"http://{free_address()}"
        with self.machine.on_server_core(), Path(self.directory / "etcd.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(program, "--data-dir", str(self.directory / f"etcd-{client[-5:]}")),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", cluster, "--initial-advertise-peer-urls", cluster),
                *("--initial-cluster", f"default={cluster}"),
                stdout=log,
                stderr=log,
                env=environment(),
            )
        address = client.removeprefix("http://")
        try:
            await _wait_for_etcd(address)
            yield address
        finally:
            process.kill()
            await process.wait()


async def _wait_for_etcd(address: str) -> None:
    """Wait until it answers a read of a key."""
    async with asyncio.timeout(_TIMEOUT_S):
        while True:
            with contextlib.suppress(OSError, CallFailedError):
                async with open_connection(address) as connection:
                    await call(connection, "/etcdserverpb.KV/Range", b"\x0a\x01k")
                    return
            await asyncio.sleep(0.05)

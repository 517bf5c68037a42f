"""Two servers on one file, each behind a proxy, and the faults injected into them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from stagecast.client import Stubs
from tests.cli.command import stagecast
from tests.faults import full_disk, locked, moved_away
from tests.process import ServerProcess, free_address
from tests.proxy import Proxy, Trouble
from tests.soak.drain import stop_under_calls

_OF_THE_FILE: dict[str, Callable[[ServerProcess, Path], AbstractContextManager[None]]] = {
    "file locked": locked,
    "file moved away": moved_away,
    "disk full": full_disk,
}
_OF_THE_NETWORK = {f"connections {kind.value}": kind for kind in Trouble}

_OPTIONS = ("--slow-reader", "1")  # so that stopped readers are disconnected within a run

FAULTS = ("SIGKILL", "SIGSTOP", "SIGTERM", *_OF_THE_FILE, *_OF_THE_NETWORK)


class Anywhere:
    """A client of several servers on one file: each call goes to any of them."""

    def __init__(self, clients: Sequence[Stubs], rng: random.Random) -> None:
        self._clients = clients
        self._rng = rng

    @property
    def reports(self) -> Any:
        return self._rng.choice(self._clients).reports

    @property
    def controls(self) -> Any:
        return self._rng.choice(self._clients).controls

    @property
    def status(self) -> Any:
        return self._rng.choice(self._clients).status


class Servers:
    """Two servers that are killed and restarted on the same addresses.

    Attributes:
        addresses: of gRPC, without the proxies.
        http_addresses: of HTTP, without the proxies, and then through them.
        file: a lock for moving or locking the file, or opening it beside the servers.
        log: the log of both servers.
    """

    def __init__(self, db: Path, key: str) -> None:
        self._db = db
        self._key = key
        self._addresses = [(free_address(), free_address()) for _ in range(2)]
        self.addresses = [grpc for grpc, _ in self._addresses]
        self._proxies = [Proxy(grpc) for grpc in self.addresses]
        self._http_proxies = [Proxy(http) for _, http in self._addresses]
        self.http_addresses = [http for _, http in self._addresses]
        self._running: list[ServerProcess] = []
        self._direct: list[Stubs] = []
        self.file = asyncio.Lock()
        self.log = Path(f"{db}.log")

    @contextlib.asynccontextmanager
    async def clients(self) -> AsyncIterator[list[Stubs]]:
        """Run them during the block; yield a client of each, and one through each proxy."""
        try:
            await self._start_both()
            async with contextlib.AsyncExitStack() as stack:
                for proxy in (*self._proxies, *self._http_proxies):
                    await stack.enter_async_context(proxy.running())
                self.http_addresses += [proxy.address for proxy in self._http_proxies]
                ways = [*self.addresses, *(proxy.address for proxy in self._proxies)]
                clients = [
                    await stack.enter_async_context(Stubs(address, key=self._key))
                    for address in ways
                ]
                self._direct = clients[: len(self.addresses)]
                yield clients
        finally:
            for server in self._running:
                if server.process.returncode is None:
                    await server.kill()

    async def inject(self, fault: str, number: int, seconds: float) -> None:
        """Inject a fault into one of them; it is over when this returns."""
        server = self._running[number]
        if fault == "SIGKILL":
            await server.kill()
            self._running[number] = await self._start(number)
        elif fault == "SIGSTOP":
            server.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            server.process.send_signal(signal.SIGCONT)
        elif fault == "SIGTERM":
            async with stop_under_calls(server, self._direct[number]):
                self._running[number] = await self._start(number)
        elif fault in _OF_THE_NETWORK:
            proxies = self._proxies[number], self._http_proxies[number]
            kind = _OF_THE_NETWORK[fault]
            await asyncio.gather(*(proxy.trouble(kind, seconds) for proxy in proxies))
        else:
            async with self.file:
                with _OF_THE_FILE[fault](server, self._db):
                    await asyncio.sleep(seconds)

    async def back_up(self, copy: Path) -> None:
        """Copy the file while they use it."""
        async with self.file:
            ended = await stagecast("backup", copy, "--db", self._db)
        assert ended.code == 0, ended.err

    async def restore(self, copy: Path) -> None:
        """Stop both, replace their file by a copy, and restart them."""
        assert await self.stop() == [0, 0]
        for suffix in ("-wal", "-shm"):
            Path(f"{self._db}{suffix}").unlink(missing_ok=True)
        shutil.copy(copy, self._db)
        await self._start_both()

    def memory(self) -> int:
        """Return the memory of the larger one, in MiB."""
        return max(server.memory() for server in self._running) >> 20

    async def stop(self) -> list[int]:
        """Stop both with SIGTERM and return their exit codes."""
        return await asyncio.gather(*(server.stop() for server in self._running))

    async def _start_both(self) -> None:
        self._running = await asyncio.gather(*(self._start(number) for number in range(2)))

    async def _start(self, number: int) -> ServerProcess:
        grpc_address, http_address = self._addresses[number]
        return await ServerProcess.start(self._db, *_OPTIONS, grpc=grpc_address, http=http_address)

"""`stagecast serve` as a process of its own, which tests can stop, kill and restart."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

_READY = re.compile(r"stagecast ready grpc=(\S+) http=(\S+)\n")


class ServerProcess:
    """A running `stagecast serve`.

    Attributes:
        grpc, http: its addresses, from its ready line.
    """

    def __init__(self, process: asyncio.subprocess.Process, grpc: str, http: str) -> None:
        self.process = process
        self.grpc = grpc
        self.http = http

    @classmethod
    async def start(
        cls,
        db: Path,
        *options: str,
        grpc: str = "127.0.0.1:0",
        http: str = "127.0.0.1:0",
        program: str = "stagecast",
    ) -> ServerProcess:
        """Start a server and wait until it is ready; its log goes to `<db>.log`.

        `options` are further options of `stagecast serve`.
        """
        with Path(f"{db}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command_line(db, *options, grpc=grpc, http=http, program=program),
                env=environment(),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        async with asyncio.timeout(240):
            line = (await process.stdout.readline()).decode()
        ready = _READY.fullmatch(line)
        if ready is None:
            await process.wait()
            raise AssertionError(f"no ready line but {line!r}: {Path(f'{db}.log').read_text()}")
        return cls(process, ready[1], ready[2])

    def memory(self) -> int:
        """Return its resident memory in bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    async def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """Send SIGTERM, wait for the end and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(240):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def running(db: Path, *options: str, **start: str) -> AsyncIterator[ServerProcess]:
    """Run a server during the block; kill it if it still runs at the end."""
    server = await ServerProcess.start(db, *options, **start)
    try:
        yield server
    finally:
        if server.process.returncode is None:
            await server.kill()


def command_line(
    db: Path,
    *options: str,
    grpc: str = "127.0.0.1:0",
    http: str = "127.0.0.1:0",
    program: str = "stagecast",
) -> list[str]:
    """Return the command that starts a server; `program` is the module to run."""
    serve = [sys.executable, "-m", program, "serve"]
    return [*serve, "--db", str(db), "--grpc", grpc, "--http", http, *options]


def free_address() -> str:
    """Return an unused address, for a server that is restarted on it.

    The port is below the ephemeral ports, which the system might assign to others meanwhile.
    """
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return f"127.0.0.1:{port}"


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment with changes and without stagecast's variables."""
    others = {key: value for key, value in os.environ.items() if not key.startswith("STAGECAST_")}
    return others | changes

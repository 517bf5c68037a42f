"""A service of several processes, run as a command."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from stagecast.config import Config
from tests.cli.command import Running, command
from tests.cli.test_serve import ANY, READY
from tests.process import environment

TIMEOUT_S = 240


class Service(Running):
    """A running `stagecast serve --processes N`, in a process group of its own.

    Attributes:
        log: the lines of its stderr that were read so far.
        grpc, http: its addresses, once it is ready.
    """

    grpc: str
    http: str

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__(process)
        self.log: list[str] = []

    async def logged(self, pattern: str) -> re.Match[str]:
        """Read its log up to the next line that matches a pattern."""
        assert self.process.stderr is not None
        async with asyncio.timeout(TIMEOUT_S):
            while line := (await self.process.stderr.readline()).decode():
                self.log.append(line)
                if actual := re.search(pattern, line):
                    return actual
        raise AssertionError(f"no {pattern!r} in {''.join(self.log)}")

    async def next_ready(self) -> int:
        """Return the id of the next process that is ready."""
        return int((await self.logged(r"process (\d+) is ready"))[1])

    async def ready(self, processes: int) -> list[int]:
        """Wait until the service is ready; return the ids of its processes."""
        line = READY.fullmatch(await self.line())
        assert line is not None
        self.grpc, self.http = line[1], line[2]
        return [await self.next_ready() for _ in range(processes)]

    async def starting(self, *others: int) -> list[int]:
        """Wait until a process apart from `others` is starting; return the ids of all such."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                actual = map(int, children.read_text().split())
                if starting := [one for one in actual if one not in others and _is_server(one)]:
                    return starting
                await asyncio.sleep(0)

    async def end(self) -> tuple[int, str]:  # type: ignore[override]  # the output of a service is its log
        """Wait for the end of all its processes; return the exit code and the whole log."""
        ended = await super().end()
        return ended.code, "".join(self.log) + ended.err


def _is_server(process: int) -> bool:
    """Return whether a child has been started as a server, and not only forked."""
    try:
        return b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # it has ended
        return False


@contextlib.asynccontextmanager
async def serving(
    db: Path, *, processes: int = 3, config: Config | None = None
) -> AsyncIterator[Service]:
    """Run a service for as long as the block, and kill all that is left of it.

    A `config` can set what the command has no options for.
    """
    requested = command("serve", "--db", db, *ANY, "--processes", str(processes))
    process = await asyncio.create_subprocess_exec(
        *(requested if config is None else supervised(config, processes)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        process_group=0,
    )
    try:
        yield Service(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def supervised(config: Config, processes: int) -> list[str]:
    """Return a command line that supervises processes with a configuration."""
    path = f"pathlib.PosixPath({str(config.db)!r})"
    value = (
        f"db={path}, grpc={config.grpc!r}, http={config.http!r}, process_heartbeat_s="
        f"{config.process_heartbeat_s}, "
        f"linger_s={config.linger_s}, replaced_within_s={config.replaced_within_s}"
    )
    program = (
        "import pathlib; from stagecast.config import Config; "
        "from stagecast.supervisor.supervisor import supervise; "
        f"raise SystemExit(not supervise(Config({value}), {processes}))"
    )
    return [sys.executable, "-W", "error", "-c", program]

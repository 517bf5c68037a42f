"""Commands as users run them: in a process, with their output and exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.process import environment

_TIMEOUT_S = 240
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


async def stagecast(*arguments: str | Path, **variables: str) -> Ended:
    """Run a command to its end; warnings of Python are errors."""
    return await finished(command(*arguments), **variables)


async def finished(line: Sequence[str], **variables: str) -> Ended:
    """Run a command line, such as one of `command`, to its end."""
    process = await asyncio.create_subprocess_exec(
        *line,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**variables),
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            out, err = await process.communicate()
    finally:
        await _kill(process)
    assert process.returncode is not None
    return Ended(code=process.returncode, out=out.decode(), err=err.decode())


@contextlib.asynccontextmanager
async def started(*arguments: str | Path, **variables: str) -> AsyncIterator[Running]:
    """Run a command for as long as the block."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**variables),
        limit=2**24,
    )
    try:
        yield Running(process)
    finally:
        await _kill(process)


class Running:
    """A running command."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        """Return the next line of its stdout, empty at the end."""
        assert self.process.stdout is not None
        async with asyncio.timeout(_TIMEOUT_S):
            return (await self.process.stdout.readline()).decode()

    async def line_with(self, text: str) -> str:
        """Return the next line of its stdout with a text; it must not end before."""
        while text not in (line := await self.line()):
            assert line, f"ended without a line with {text!r}"
        return line

    async def error_line(self) -> str:
        """Return the next line of its stderr, empty at the end."""
        assert self.process.stderr is not None
        async with asyncio.timeout(_TIMEOUT_S):
            return (await self.process.stderr.readline()).decode()

    async def lines(self) -> list[str]:
        """Return the rest of its lines."""
        actual = []
        while line := await self.line():
            actual.append(line)
        return actual

    async def end(self) -> Ended:
        """Wait for the end; `out` is the unread rest of stdout."""
        async with asyncio.timeout(_TIMEOUT_S):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return Ended(code=self.process.returncode, out=out.decode(), err=err.decode())


class Terminal:
    """A command on a pseudo-terminal, 80 columns wide.

    Attributes:
        shown: its output so far, including control sequences.
    """

    def __init__(self, process: asyncio.subprocess.Process, leader: int) -> None:
        self.process = process
        self.shown = ""
        self._leader = leader

    async def wait_for(self, text: str) -> None:
        """Wait until the output contains a text."""
        async with asyncio.timeout(_TIMEOUT_S):
            while text not in self.shown:
                assert await self._read(), f"{text!r} was never shown: {self.shown}"

    async def end(self) -> int:
        """Wait for the end and return the exit code."""
        async with asyncio.timeout(_TIMEOUT_S):
            while await self._read():
                pass
            return await self.process.wait()

    def lines(self) -> list[str]:
        """Return the lines of its output, without control sequences."""
        return _CONTROL.sub("", self.shown).splitlines()

    async def _read(self) -> bool:
        try:
            data = await asyncio.to_thread(os.read, self._leader, 65_536)
        except OSError:  # the other side is closed
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


@contextlib.asynccontextmanager
async def on_terminal(*arguments: str | Path, **variables: str) -> AsyncIterator[Terminal]:
    """Run a command on a terminal for as long as the block."""
    leader, follower = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *command(*arguments),
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=environment(**{"TERM": "xterm", "COLUMNS": "80", "LINES": "24"} | variables),
        )
        os.close(follower)
        try:
            yield Terminal(process, leader)
        finally:
            await _kill(process)
    finally:
        os.close(leader)


def command(*arguments: str | Path) -> list[str]:
    """Return the whole command line."""
    return [sys.executable, "-W", "error", "-m", "stagecast", *map(str, arguments)]


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()

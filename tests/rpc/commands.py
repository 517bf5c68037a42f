"""Third-party command-line clients as processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.process import environment


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The exit code and output of a process."""

    code: int
    out: str
    err: str

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The JSON objects that it printed."""
        return list(_objects(self.out))


class Command:
    """An installed tool, beside this Python.

    Args:
        name: the tool.
        options: options of every call.
        home: its working and home directory.
    """

    def __init__(self, name: str, *options: str, home: Path) -> None:
        self._start = (str(Path(sys.executable).parent / name), *options)
        self._home = home
        self._environment = environment(
            HOME=str(home),
            XDG_CACHE_HOME=str(home / "cache"),
            XDG_CONFIG_HOME=str(home / "config"),
        )

    async def run(self, *arguments: str) -> Finished:
        """Run to the end."""
        async with self.running(*arguments) as process:
            return await finish(process)

    @contextlib.asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run until the end of the block at most."""
        process = await asyncio.create_subprocess_exec(
            *self._start,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._home,
            env=self._environment,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


async def read_until(process: asyncio.subprocess.Process, text: str) -> str:
    """Read the output of a process up to and including the line with a text."""
    assert process.stdout is not None
    read = ""
    async with asyncio.timeout(240):
        while text not in read:
            line = await process.stdout.readline()
            assert line, f"it ended after {read!r}"
            read += line.decode()
    return read


async def finish(process: asyncio.subprocess.Process, *, read: str = "") -> Finished:
    """Wait for the end of a process; `read` is its output so far."""
    async with asyncio.timeout(240):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Finished(code=process.returncode, out=read + out.decode(), err=err.decode())


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:]

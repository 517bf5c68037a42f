"""Modules of this package as processes of their own, which answer lines of JSON on pipes.

A peer ends when its stdin does, so none is left over however this process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from tests.process import ROOT, environment

_TIMEOUT_S = 120
_LINE_BYTES = 2**24

Answer = Callable[[dict[str, Any]], Awaitable[object]]


class Peer:
    """A process that answers questions."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def ask(self, **question: object) -> Any:
        """Return the answer to a question.

        Raises:
            RuntimeError: the peer has ended; the reason is on stderr.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(question).encode() + b"\n")
        async with asyncio.timeout(_TIMEOUT_S):
            answer = await stdout.readline()
        if not answer:
            raise RuntimeError(f"the peer has ended at {question}")
        return json.loads(answer)


@contextlib.asynccontextmanager
async def running(module: str) -> AsyncIterator[Peer]:
    """Run a module of this package during the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"{__package__}.{module}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
        cwd=ROOT,
        limit=_LINE_BYTES,
    )
    try:
        yield Peer(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def answer_lines(answer: Answer) -> None:
    """Answer each line of stdin, until its end."""
    lines = asyncio.StreamReader(limit=_LINE_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        answered = json.dumps(await answer(json.loads(line)))
        sys.stdout.write(answered + "\n")
        sys.stdout.flush()

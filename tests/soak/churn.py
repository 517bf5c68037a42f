"""`python -m tests.soak.churn [WATCHES]`: open and cancel watches, to find leaks.

It prints the server's memory and file descriptors before, after a first round, and at the end.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import uuid
from pathlib import Path

import click

from stagecast.client import Stubs
from tests.process import ServerProcess, running
from tests.watches.pipeline import Pipeline

_AT_ONCE = 500


async def churn(watches: int) -> list[tuple[int, int]]:
    """Open and cancel so many; return MiB of memory and file descriptors at three moments."""
    with tempfile.TemporaryDirectory() as directory:
        async with running(Path(directory) / "churn.db") as server, Stubs(server.grpc) as client:
            pipeline = Pipeline(client, str(uuid.uuid4()))
            await pipeline.create(3, more_documents_follow=True)
            costs = [_cost(server)]
            for done in range(0, watches, _AT_ONCE):
                await _open_and_cancel(pipeline)
                if not done or done + _AT_ONCE >= watches:
                    costs.append(_cost(server))
            return costs


async def _open_and_cancel(pipeline: Pipeline) -> None:
    """Cancel half of them after the first message, the others before it."""
    calls = [pipeline.client.status.WatchBatch(pipeline.watch_request()) for _ in range(_AT_ONCE)]
    await asyncio.gather(*(call.read() for call in calls[::2]))
    for call in calls:
        call.cancel()


def _cost(server: ServerProcess) -> tuple[int, int]:
    files = Path(f"/proc/{server.process.pid}/fd")
    return server.memory() >> 20, len(list(files.iterdir()))


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    for when, (mib, files) in zip(
        ("before", f"after {_AT_ONCE}", f"after {number}"), asyncio.run(churn(number)), strict=True
    ):
        click.echo(f"{when}: {mib} MiB, {files} file descriptors")

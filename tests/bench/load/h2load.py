"""h2load, of nghttp2: the same request again and again, from C."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

from tests.bench.load.http2 import CallFailedError
from tests.bench.machine import find_tool

_TIMEOUT_S = 180
_CLIENTS = 4  # connections
_REQUESTS = re.compile(r"requests: (\d+) total, .* (\d+) succeeded")


class H2Load:
    """h2load, as often as it takes: the same request, from C.

    Raises:
        NotMeasuredError: it is not installed.
    """

    def __init__(self, directory: Path) -> None:
        self._program = find_tool("h2load")
        self._body = directory / "h2load-body"

    async def call(self, address: str, path: str, request: bytes, calls: int) -> None:
        """Make so many gRPC calls, 64 in flight."""
        self._body.write_bytes(b"\x00" + len(request).to_bytes(4) + request)
        await self._run(
            calls,
            *("-c", str(_CLIENTS), "-m", str(64 // _CLIENTS), "-d", str(self._body)),
            *("-H", "te: trailers", "-H", "content-type: application/grpc"),
            f"http://{address}{path}",
        )

    async def poll(self, address: str, target: str, headers: Sequence[str], polls: int) -> None:
        """Send so many HTTP/1.1 requests on as many connections."""
        options = [option for header in headers for option in ("-H", header)]
        await self._run(polls, "--h1", "-c", str(_CLIENTS), *options, f"http://{address}{target}")

    async def _run(self, requests: int, *options: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *(self._program, "-n", str(max(requests, _CLIENTS)), *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(_TIMEOUT_S):
            output, _ = await process.communicate()
        counted = _REQUESTS.search(output.decode())
        if counted is None or counted[1] != counted[2]:
            raise CallFailedError(f"h2load {' '.join(options)}: {output.decode()}")

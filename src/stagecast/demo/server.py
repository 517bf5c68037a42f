"""The demo's own server: a process, which the demo kills and starts again."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Self

from stagecast.config import Config
from stagecast.supervisor.supervisor import ServerProcess

_STOP_S = 30.0  # more than a server without clients needs to stop


class DemoServer:
    """A server on a file, on free ports. It runs during an `async with` block.

    Attributes:
        grpc, http: its addresses.
        db: its file.

    Raises:
        StartError: it cannot start.
    """

    def __init__(self, db: Path) -> None:
        self.db = db
        self._config = Config(db=db, grpc="127.0.0.1:0", http="127.0.0.1:0")

    @property
    def grpc(self) -> str:
        """Its gRPC address."""
        return self._config.grpc

    @property
    def http(self) -> str:
        """Its HTTP address."""
        return self._config.http

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.stop(_STOP_S)

    async def kill(self) -> None:
        """Kill it, as a crash would."""
        self._process.kill()
        await self._process.end()
        self._process.close()

    async def start_again(self) -> None:
        """Start it on the same file and addresses."""
        await self._start()

    async def _start(self) -> None:
        self._process = ServerProcess(self._config, log_level=logging.ERROR)
        try:
            ready = await self._process.ready()
        except BaseException:  # such as Ctrl-C: the block may not have begun, so it has no end
            await self._process.stop(_STOP_S)
            raise
        self._config = replace(self._config, grpc=ready.grpc, http=ready.http)

"""The floors of gRPC and HTTP in one process: what a call leaves cold for the poll after it."""

from __future__ import annotations

from typing import Any

import uvloop

from tests.bench.floors import grpc_server, http_server


class _Floor(http_server.Floor):
    grpc_address: str

    async def prepare(self, question: dict[str, Any]) -> object:
        """Set the size of the body; return both addresses."""
        return {"http": await super().prepare(question), "grpc": self.grpc_address}


async def _serve() -> None:
    floor = _Floor()
    server, floor.grpc_address = await grpc_server.start(grpc_server.Floor())
    await floor.serve()
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(_serve())

"""The floor of HTTP: a bare Starlette route with a fixed answer, on uvicorn."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.bench.peer import answer_lines

BODY = "/body"
UNCHANGED = "/unchanged"

_HEADERS = {"ETag": '"0123456789abcdef0123456789abcdef"'}


class Floor:
    """The bytes that both routes answer."""

    def __init__(self) -> None:
        self._body = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Connections inherit it; without it, a body may wait for a delayed acknowledgement.
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def serve(self) -> None:
        """Serve until the end of stdin."""
        app = Starlette(routes=[Route(BODY, self._send), Route(UNCHANGED, self._send_nothing)])
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        serving = asyncio.create_task(uvicorn.Server(config).serve(sockets=[self._listener]))
        await answer_lines(self.prepare)
        serving.cancel()

    async def prepare(self, question: dict[str, Any]) -> object:
        """Set the size of the body; return the address."""
        self._body = bytes(question.get("size", 0))
        return "{}:{}".format(*self._listener.getsockname())

    async def _send(self, _request: Request) -> Response:
        return Response(self._body, headers=_HEADERS, media_type="application/json")

    async def _send_nothing(self, _request: Request) -> Response:
        return Response(status_code=304, headers=_HEADERS)


async def _serve() -> None:
    await Floor().serve()


if __name__ == "__main__":
    uvloop.run(_serve())

"""The floor of HTTP: a Starlette route with a fixed answer, on the HTTP server of stagecast."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stagecast.config import Config
from stagecast.rest import HttpServer
from stagecast.runtime.event_loop import run
from tests.bench.peer import answer_lines

BODY = "/body"
UNCHANGED = "/unchanged"

_HEADERS = {"ETag": '"0123456789abcdef0123456789abcdef"'}


class _Bare:
    def __init__(self) -> None:
        self._body = b""
        self._http = HttpServer(
            Starlette(routes=[Route(BODY, self._send), Route(UNCHANGED, self._send_nothing)]),
            Config(http="127.0.0.1:0"),
        )

    async def serve(self) -> None:
        await self._http.start()
        await answer_lines(self._prepare)
        await self._http.stop(0)

    async def _prepare(self, question: dict[str, Any]) -> str:
        """Set the size of the body; return the address."""
        self._body = bytes(question["size"])
        return self._http.address

    async def _send(self, _request: Request) -> Response:
        return Response(self._body, headers=_HEADERS, media_type="application/json")

    async def _send_nothing(self, _request: Request) -> Response:
        return Response(status_code=304, headers=_HEADERS)


async def _serve() -> None:
    await _Bare().serve()


if __name__ == "__main__":
    run(_serve())

"""grpc's server, with a loop for each method that accepts its calls.

grpc.aio accepts all calls in one task. It waits there for all methods together, anew for each call,
and then searches the handler: with our thirty methods an empty call costs 30 % less without that.
It also decodes the names of unknown methods there, so that a single name that is not UTF-8 would
end the whole server. An older grpc.aio accepts all methods as one, and decodes each name in the
task of its own call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from grpc import aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # has no types

_Run = Callable[..., Coroutine[Any, Any, Any]]

_AioServer: Any = cygrpc.AioServer


class _Server(_AioServer):  # type: ignore[misc]  # compiled, and without types
    """Accepts calls of methods with streamed requests, and refuses unknown ones."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self._handlers: dict[str, Any] = {}

    def add_registered_method_handlers(self, handlers: Mapping[str, Any]) -> None:
        self._handlers.update(handlers)
        super().add_registered_method_handlers(handlers)

    async def _request_registered_call(self, method: bytes) -> NoReturn:
        """Serve all calls of a method until the server shuts down."""
        handler = self._handlers[method.decode()]
        if handler.response_streaming:
            run: _Run = cygrpc._handle_stream_stream_rpc  # noqa: SLF001 - grpc has no other way
        else:
            run = cygrpc._handle_stream_unary_rpc  # noqa: SLF001 - as above
        accept = partial(super()._request_registered_call, method)
        await _serve_all(accept, partial(run, handler), method.decode())

    async def _request_call(self) -> NoReturn:
        """Answer all calls of unknown methods with `UNIMPLEMENTED` until the server shuts down."""
        no_methods = cygrpc._MethodResolver([], {})  # noqa: SLF001 - as above
        refuse = cygrpc._handle_rpc  # noqa: SLF001 - as above
        await _serve_all(
            super()._request_call,
            lambda call, loop: refuse("", no_methods, (), call, loop, False),
            "",
        )


async def _serve_all(accept: _Run, run: _Run, name: str) -> NoReturn:
    """Serve each call in a task of its own, so that an error ends one call only."""
    loop = asyncio.get_running_loop()
    schedule = cygrpc._schedule_rpc_coro  # noqa: SLF001 - as above
    tasks = set()  # the loop itself holds tasks only weakly
    while True:
        call = await accept()
        task = loop.create_task(schedule(run(call, loop), call, loop, name))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def make_server(options: Sequence[tuple[str, Any]]) -> aio.Server:
    """Return a server that refuses all methods that are not registered."""
    if not hasattr(_AioServer, "_request_registered_call"):
        return aio.server(options=options)
    # grpc takes no other class as an argument, and replacing the object that it has made would
    # leak: the core of a server that never starts is never freed.
    cygrpc.AioServer = _Server
    try:
        return aio.server(options=options)
    finally:
        cygrpc.AioServer = _AioServer

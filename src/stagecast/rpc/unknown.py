"""Calls of methods that the server does not have: refused without reading their names.

grpc.aio decodes the name of such a method in the one task that takes in all calls, so that one name
which is not UTF-8 would end the whole server. A newer grpc asks for them by themselves, apart from
the calls of registered methods: here they are answered before it gets to see them. An older one
decodes each name in the task of its own call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

from grpc import aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # has no types

_AioServer: Any = cygrpc.AioServer


class _Server(_AioServer):  # type: ignore[misc]  # compiled, and without types
    async def _request_call(self) -> NoReturn:
        """Refuse all calls of methods that are not registered, until the server shuts down."""
        refusals = set()  # the loop itself holds tasks only weakly
        while True:
            call = await super()._request_call()
            refusal = asyncio.create_task(_refuse(call))
            refusals.add(refusal)
            refusal.add_done_callback(refusals.discard)


async def _refuse(call: object) -> None:
    """Answer `UNIMPLEMENTED`; a task of its own, so that no error here ends more than one call."""
    loop = asyncio.get_running_loop()
    no_methods = cygrpc._MethodResolver([], {})  # noqa: SLF001 - grpc offers no other way
    answer = cygrpc._handle_rpc("", no_methods, (), call, loop, False)  # noqa: SLF001 - as above
    await cygrpc._schedule_rpc_coro(answer, call, loop, "")  # noqa: SLF001 - as above


def make_server(
    interceptors: Sequence[aio.ServerInterceptor], options: Sequence[tuple[str, Any]]
) -> aio.Server:
    """Return a server of which every method must be registered; others are unknown to it."""
    if not hasattr(_AioServer, "_request_registered_call"):
        return aio.server(interceptors=interceptors, options=options)
    # It takes no other class from its caller, and what it has made cannot be exchanged without a
    # leak: the core of a server that never starts is never freed.
    cygrpc.AioServer = _Server
    try:
        return aio.server(interceptors=interceptors, options=options)
    finally:
        cygrpc.AioServer = _AioServer

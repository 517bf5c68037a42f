"""Calls of unknown methods: refused without decoding their names.

grpc.aio decodes the name of such a method in the one task that accepts all calls, so that a single
name that is not UTF-8 would end the whole server. A newer grpc requests these calls separately from
those of registered methods: here they are answered before it decodes them. An older one decodes
each name in the task of its own call.
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
        """Refuse all calls of unknown methods until the server shuts down."""
        refusals = set()  # the loop itself holds tasks only weakly
        while True:
            call = await super()._request_call()
            refusal = asyncio.create_task(_refuse(call))
            refusals.add(refusal)
            refusal.add_done_callback(refusals.discard)


async def _refuse(call: object) -> None:
    """Answer `UNIMPLEMENTED`; in its own task, so that an error ends one call only."""
    loop = asyncio.get_running_loop()
    no_methods = cygrpc._MethodResolver([], {})  # noqa: SLF001 - grpc offers no other way
    answer = cygrpc._handle_rpc("", no_methods, (), call, loop, False)  # noqa: SLF001 - as above
    await cygrpc._schedule_rpc_coro(answer, call, loop, "")  # noqa: SLF001 - as above


def make_server(
    interceptors: Sequence[aio.ServerInterceptor], options: Sequence[tuple[str, Any]]
) -> aio.Server:
    """Return a server that refuses all methods that are not registered."""
    if not hasattr(_AioServer, "_request_registered_call"):
        return aio.server(interceptors=interceptors, options=options)
    # grpc takes no other class as an argument, and replacing the object that it has made would
    # leak: the core of a server that never starts is never freed.
    cygrpc.AioServer = _Server
    try:
        return aio.server(interceptors=interceptors, options=options)
    finally:
        cygrpc.AioServer = _AioServer

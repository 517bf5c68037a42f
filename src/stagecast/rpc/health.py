"""`grpc.health.v1.Health`: whether the store can be written and the server is not shutting down.

The servicer of grpcio-health-checking holds a lock while it writes to a stream, and never ends its
watches: one slow reader would delay the status for all, and any watch would delay a shutdown.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

from stagecast.errors import Draining, WatchExpired
from stagecast.escaping import quote
from stagecast.rpc.running_calls import Context


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Reports one status for all services; the first one is NOT_SERVING.

    Args:
        services: the full names of known services, besides the empty one for the whole server.
        watch_life_s: after how long a watch ends, give or take a tenth, like those of batches.
    """

    def __init__(self, services: Iterable[str], *, watch_life_s: float) -> None:
        self._watch_life_s = watch_life_s
        self._known = {"", *services}
        self._serving = False
        self._draining = False
        self._changed = asyncio.Event()

    def set_serving(self, serving: bool) -> None:
        """Change the status and notify the watches; no effect while draining."""
        if serving is not self._serving and not self._draining:
            self._serving = serving
            self._notify()

    def drain(self) -> None:
        """Report NOT_SERVING for good, and end all watches."""
        self._serving = False
        self._draining = True
        self._notify()

    async def Check(  # noqa: N802 - the proto's name
        self, request: pb.HealthCheckRequest, context: Context
    ) -> pb.HealthCheckResponse:
        """Return the status."""
        if request.service not in self._known:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {quote(request.service)}")
        return pb.HealthCheckResponse(status=self._status(request.service))

    async def Watch(  # noqa: N802 - the proto's name
        self, request: pb.HealthCheckRequest, context: Context
    ) -> AsyncGenerator[pb.HealthCheckResponse]:
        """Send the status, and again after each change."""
        life_s = self._watch_life_s * random.uniform(0.9, 1.1)  # noqa: S311 - spreads reconnects
        end_s = asyncio.get_running_loop().time() + life_s
        reported: int | None = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != reported:
                yield pb.HealthCheckResponse(status=status)
                reported = status
            if self._draining:
                raise Draining("server is shutting down", retry_after_s=1.0)
            try:
                async with asyncio.timeout_at(end_s):
                    await changed.wait()
            except TimeoutError:
                raise WatchExpired(
                    "the watch reached its maximum lifetime; watch again",
                    retry_after_s=random.uniform(0.0, 1.0),  # noqa: S311 - as above
                ) from None

    def _status(self, service: str) -> int:
        if service not in self._known:
            return pb.HealthCheckResponse.SERVICE_UNKNOWN
        if self._serving:
            return pb.HealthCheckResponse.SERVING
        return pb.HealthCheckResponse.NOT_SERVING

    def _notify(self) -> None:
        """Wake all watches; later ones wait for the next change."""
        self._changed.set()
        self._changed = asyncio.Event()

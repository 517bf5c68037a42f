"""Reading of requests, with limits on their time and number.

grpc would wait for ever, with up to a whole message in memory.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator

from grpc import aio

from stagecast.errors import Draining, FieldInvalid, SlowSender
from stagecast.rpc.running_calls import RunningCall
from stagecast.rpc.time_limit import TimeLimit

_MANY = 64  # awaited requests; later ones have the short timeout
_SHORT_TIMEOUT_S = 5.0
_DRAINING_S = 1.0
_RETRY_AFTER_S = 1.0


class RequestReader:
    """Reads requests, and ends calls whose request does not arrive in time.

    Args:
        timeout_s: how long a request may take to arrive.
        limit: how many requests may be awaited at once; beyond it the oldest is given up.
    """

    def __init__(self, *, timeout_s: float, limit: int) -> None:
        self._limit = limit
        self._draining = False
        self._awaited: TimeLimit[RunningCall] = TimeLimit(timeout_s, self._give_up)

    async def read(self, call: RunningCall) -> bytes:
        """Return the only request of a call.

        Raises:
            FieldInvalid: the client has ended its side without one. grpc does not distinguish a
                missing request from a truncated one and one that it cannot decompress.
            asyncio.CancelledError: it did not arrive in time, and the call ends.
        """
        request = await self._read(call)
        if request is None:
            raise FieldInvalid("request", "missing, incomplete, or impossible to decompress")
        return request

    async def read_all(self, call: RunningCall) -> AsyncGenerator[bytes]:
        """Yield requests until the client ends its side; each has the timeout of a single one."""
        while (request := await self._read(call)) is not None:
            yield request

    def drain(self) -> None:
        """Shorten the timeout of every awaited request."""
        self._draining = True
        self._awaited.shorten(_DRAINING_S)

    async def _read(self, call: RunningCall) -> bytes | None:
        awaited = self._awaited
        awaited.begin(call, max_s=_SHORT_TIMEOUT_S if len(awaited) >= _MANY else math.inf)
        if len(awaited) > self._limit:
            awaited.expire_oldest()
        try:
            request = await call.context.read()
            return None if request is aio.EOF else request
        finally:
            awaited.end(call)

    def _give_up(self, call: RunningCall) -> None:
        if self._draining:
            call.end(
                Draining(
                    "server is shutting down and the request has not arrived",
                    retry_after_s=_RETRY_AFTER_S,
                )
            )
        else:
            call.end(
                SlowSender(
                    "the request did not arrive in time; nothing was done",
                    retry_after_s=_RETRY_AFTER_S,
                )
            )

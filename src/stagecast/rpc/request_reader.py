"""Reading of requests, with limits on their time and number.

grpc would wait for ever, with up to a whole message in memory. A read is never cancelled, because
grpc would lose a message that arrives at that moment; ending the call ends the read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any

from grpc import aio

from stagecast.errors import Draining, FieldInvalid, SlowSender, StagecastError
from stagecast.rpc.stream_writer import Context

_MANY = 64  # awaited requests; later ones have the short timeout
_SHORT_TIMEOUT_S = 5.0
_DRAINING_S = 1.0
_RETRY_AFTER_S = 1.0


class RequestReader:
    """Reads requests, and ends calls whose request does not arrive in time.

    Args:
        timeout_s: how long a request may take to arrive.
        limit: how many requests may be awaited at once; beyond it the oldest is given up.
        end: ends a call with the status of an error.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        limit: int,
        end: Callable[[Context, StagecastError], Awaitable[None]],
    ) -> None:
        self._timeout_s = timeout_s
        self._limit = limit
        self._end = end
        self._draining = False
        self._awaited: dict[Context, None] = {}  # the oldest first
        self._endings: set[asyncio.Task[None]] = set()

    async def read(self, context: Context) -> Any:  # noqa: ANN401 - any request
        """Return the only request of a call.

        Raises:
            FieldInvalid: the client has ended its side without one. grpc does not distinguish a
                missing request from a truncated one and one that it cannot decompress.
            grpc.aio.AbortError: it did not arrive in time, and the call has ended.
        """
        request = await self._read(context)
        if request is aio.EOF:
            raise FieldInvalid("request", "missing, incomplete, or impossible to decompress")
        return request

    async def read_all(self, context: Context) -> AsyncGenerator[Any]:
        """Yield requests until the client ends its side; each has the timeout of a single one."""
        while (request := await self._read(context)) is not aio.EOF:
            yield request

    def drain(self) -> None:
        """Shorten the timeout of every awaited request."""
        self._draining = True
        loop = asyncio.get_running_loop()
        for context in self._awaited:
            loop.call_later(_DRAINING_S, self._give_up, context)

    async def _read(self, context: Context) -> Any:  # noqa: ANN401 - any request
        with self._awaiting(context):
            return await context.read()

    @contextlib.contextmanager
    def _awaiting(self, context: Context) -> Iterator[None]:
        many = len(self._awaited) >= _MANY
        timeout_s = min(self._timeout_s, _SHORT_TIMEOUT_S) if many else self._timeout_s
        loop = asyncio.get_running_loop()
        timer = loop.call_later(timeout_s, self._give_up, context)
        self._awaited[context] = None
        if len(self._awaited) > self._limit:
            self._give_up(next(iter(self._awaited)))
        try:
            yield
        finally:
            timer.cancel()
            del self._awaited[context]

    def _give_up(self, context: Context) -> None:
        ending = asyncio.create_task(self._end_if_awaited(context))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _end_if_awaited(self, context: Context) -> None:
        # A request that has arrived meanwhile is answered: it may be about to change something.
        if context in self._awaited:
            with contextlib.suppress(aio.AbortError):
                await self._end(context, self._late_error())

    def _late_error(self) -> SlowSender | Draining:
        if self._draining:
            return Draining(
                "server is shutting down and the request has not arrived",
                retry_after_s=_RETRY_AFTER_S,
            )
        return SlowSender(
            "the request did not arrive in time; nothing was done", retry_after_s=_RETRY_AFTER_S
        )

"""Requests that are on their way: for how long one may be, and how many at once.

grpc would wait for ever, with up to a whole message in memory. A read is never cancelled, because
grpc would lose the message that comes at that moment; the call is ended, and that ends the read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any

from grpc import aio

from stagecast.errors import Draining, FieldInvalid, SlowSender, StagecastError
from stagecast.rpc.stream_writer import Context

_FEW = 64  # that may take their time
_HURRIED_S = 5.0  # for each beyond them
_DRAINING_S = 1.0
_RETRY_AFTER_S = 1.0


class RequestReader:
    """Reads requests, and gives up those that do not come.

    Args:
        patience_s: how long a request may take to arrive.
        most: how many may be on their way; beyond them the one that takes longest is given up.
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
            FieldInvalid: the client has ended its side without one. grpc does not tell apart a
                request that was cut short, one that it cannot decompress, and none.
            grpc.aio.AbortError: it did not come in time, and the call has ended.
        """
        request = await self._read(context)
        if request is aio.EOF:
            raise FieldInvalid("request", "no whole message came, or it could not be unpacked")
        return request

    async def read_all(self, context: Context) -> AsyncGenerator[Any]:
        """Yield requests until the client has no more; each is waited for as the only one is."""
        while (request := await self._read(context)) is not aio.EOF:
            yield request

    def drain(self) -> None:
        """Wait for nobody much longer."""
        self._draining = True
        loop = asyncio.get_running_loop()
        for context in self._awaited:
            loop.call_later(_DRAINING_S, self._give_up, context)

    async def _read(self, context: Context) -> Any:  # noqa: ANN401 - any request
        with self._awaiting(context):
            return await context.read()

    @contextlib.contextmanager
    def _awaiting(self, context: Context) -> Iterator[None]:
        hurried = len(self._awaited) >= _FEW
        timeout_s = min(self._timeout_s, _HURRIED_S) if hurried else self._timeout_s
        loop = asyncio.get_running_loop()
        late = loop.call_later(timeout_s, self._give_up, context)
        self._awaited[context] = None
        if len(self._awaited) > self._limit:
            self._give_up(next(iter(self._awaited)))
        try:
            yield
        finally:
            late.cancel()
            del self._awaited[context]

    def _give_up(self, context: Context) -> None:
        ending = asyncio.create_task(self._end_if_awaited(context))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _end_if_awaited(self, context: Context) -> None:
        # What has arrived meanwhile is answered: it may be about to change something.
        if context in self._awaited:
            with contextlib.suppress(aio.AbortError):
                await self._end(context, self._impatience())

    def _impatience(self) -> SlowSender | Draining:
        if self._draining:
            return Draining(
                "the server is about to stop, and your request has not arrived",
                retry_after_s=_RETRY_AFTER_S,
            )
        return SlowSender(
            "the request did not arrive in time; nothing was done", retry_after_s=_RETRY_AFTER_S
        )

"""Writing to readers who may have stopped reading: for how long a message or a status may wait.

A message that the client does not take blocks the write, and whatever comes behind it. What waits
is only that message; whoever writes holds nothing else. When the patience is over, the call is
ended and let go of, and grpc keeps message and status: a client that reads again is told then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NoReturn

import grpc
from grpc import aio

from stagecast.errors import Draining, SlowReader

Context = aio.ServicerContext[Any, Any]

_log = logging.getLogger(__name__)

_STATUS_S = 1.0  # for a status to go out; behind a blocked message it goes when that does
_RETRY_AFTER_S = 1.0


class StreamWriter:
    """The patience with all readers of a server.

    Args:
        blocked_s: how long a write may be blocked.
        draining_s: how long once the server drains.
    """

    def __init__(self, blocked_s: float, *, draining_s: float) -> None:
        self._blocked_s = blocked_s
        self._draining_s = min(blocked_s, draining_s)
        self._draining = False
        self._writes: set[asyncio.Timeout] = set()

    async def write(self, context: Context, message: Any) -> None:  # noqa: ANN401 - any message
        """Write a message to a stream, at the reader's pace.

        Raises:
            SlowReader: the reader did not take it in time.
            Draining: nor in the little time that is left.
        """
        timers = asyncio.timeout(self._draining_s if self._draining else self._blocked_s)
        try:
            async with timers:
                self._writes.add(timers)
                await context.write(message)
        except TimeoutError:
            _log.info("%s has stopped reading a stream, which is ended", context.peer())
            raise self._impatience() from None
        finally:
            self._writes.discard(timers)

    def drain(self) -> None:
        """Wait for nobody much longer."""
        self._draining = True
        end_s = asyncio.get_running_loop().time() + self._draining_s
        for timers in self._writes:
            if not timers.expired():
                timers.reschedule(min(end_s, timers.when() or end_s))

    def _impatience(self) -> SlowReader | Draining:
        if self._draining:
            return Draining(
                "the server is about to stop, and you do not read", retry_after_s=_RETRY_AFTER_S
            )
        return SlowReader(
            f"nothing was read for {self._blocked_s:g} s; watch again with the last token",
            retry_after_s=_RETRY_AFTER_S,
        )


async def end(
    context: Context,
    code: grpc.StatusCode,
    message: str,
    trailing_metadata: Sequence[tuple[str, str | bytes]] = (),
) -> NoReturn:
    """End a call with a status, which waits behind what the client has not read.

    Raises:
        grpc.aio.AbortError: the client was told.
        asyncio.CancelledError: it will be told when it reads again, or it has left.
    """
    try:
        async with asyncio.timeout(_STATUS_S):
            await context.abort(code, message, trailing_metadata=tuple(trailing_metadata))
    except (TimeoutError, aio.InternalError):
        # Whatever else ended the handler, grpc would log as a bug.
        raise asyncio.CancelledError from None

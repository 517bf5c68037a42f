"""Writing to streams whose client may have stopped reading, with a timeout for each write.

A message that the client does not read blocks the write and everything behind it; only that message
is held in memory. After the timeout the call is ended, and grpc holds the message and the status: a
client that reads again receives them.
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

_STATUS_S = 1.0  # for sending a status; behind a blocked message it waits for that
_RETRY_AFTER_S = 1.0


class StreamWriter:
    """Writes messages to streams, and gives up on slow readers.

    Args:
        blocked_s: how long a write may be blocked.
        draining_s: the same while the server drains.
    """

    def __init__(self, blocked_s: float, *, draining_s: float) -> None:
        self._blocked_s = blocked_s
        self._draining_s = min(blocked_s, draining_s)
        self._draining = False
        self._writes: set[asyncio.Timeout] = set()

    async def write(self, context: Context, message: Any) -> None:  # noqa: ANN401 - any message
        """Write a message to a stream; wait as long as the client does not read.

        Raises:
            SlowReader: the client did not read it in time.
            Draining: the same, while the server drains.
        """
        timeout = asyncio.timeout(self._draining_s if self._draining else self._blocked_s)
        try:
            async with timeout:
                self._writes.add(timeout)
                await context.write(message)
        except TimeoutError:
            _log.info("%s has stopped reading a stream; ending it", context.peer())
            raise self._slow_error() from None
        finally:
            self._writes.discard(timeout)

    def drain(self) -> None:
        """Shorten the timeout of every blocked write."""
        self._draining = True
        end_s = asyncio.get_running_loop().time() + self._draining_s
        for timeout in self._writes:
            if not timeout.expired():
                timeout.reschedule(min(end_s, timeout.when() or end_s))

    def _slow_error(self) -> SlowReader | Draining:
        if self._draining:
            return Draining(
                "server is shutting down and the client is not reading",
                retry_after_s=_RETRY_AFTER_S,
            )
        return SlowReader(
            f"the client has not read for {self._blocked_s:g} s; watch again with the last token",
            retry_after_s=_RETRY_AFTER_S,
        )


async def end(
    context: Context,
    code: grpc.StatusCode,
    message: str,
    trailing_metadata: Sequence[tuple[str, str | bytes]] = (),
) -> NoReturn:
    """End a call with a status, which waits behind unread messages.

    Raises:
        grpc.aio.AbortError: the status was sent.
        asyncio.CancelledError: the client gets it when it reads again, or has disconnected.
    """
    try:
        async with asyncio.timeout(_STATUS_S):
            await context.abort(code, message, trailing_metadata=tuple(trailing_metadata))
    except (TimeoutError, aio.InternalError):
        # Any other exception from the handler would be logged by grpc as a bug.
        raise asyncio.CancelledError from None

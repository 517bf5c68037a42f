"""Writing to streams whose client may have stopped reading, with a time limit for each write.

A message that the client does not read blocks the write and everything behind it; only that message
is held in memory. After the limit the call is ended, and grpc holds the message and the status: a
client that reads again receives them.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import Any, NoReturn

import grpc
from grpc import aio

from stagecast.errors import Draining, SlowReader
from stagecast.rpc.running_calls import Context, RunningCall
from stagecast.rpc.time_limit import TimeLimit

_log = logging.getLogger(__name__)

_STATUS_S = 1.0  # for sending a status; behind a blocked message it waits for that
_RETRY_AFTER_S = 1.0


class StreamWriter:
    """Writes to streams, and ends the calls of slow readers.

    Their error is `SlowReader`, or `Draining` while the server drains.

    Args:
        blocked_s: how long a write may be blocked.
        draining_s: the same while the server drains.
    """

    def __init__(self, blocked_s: float, *, draining_s: float) -> None:
        self._blocked_s = blocked_s
        self._draining_s = draining_s
        self._max_s = math.inf
        self._writes: TimeLimit[RunningCall] = TimeLimit(blocked_s, self._expire)

    async def begin(self, call: RunningCall) -> None:
        """Write the headers of a stream."""
        self._writes.begin(call, max_s=self._max_s)
        try:
            await call.context.send_initial_metadata(())
        finally:
            self._writes.end(call)

    async def write(self, call: RunningCall, message: Any) -> None:  # noqa: ANN401 - any message
        """Write a message to a stream; wait as long as the client does not read."""
        self._writes.begin(call, max_s=self._max_s)
        try:
            await call.context.write(message)
        finally:
            self._writes.end(call)

    def drain(self) -> None:
        """Shorten the time of every blocked write."""
        self._max_s = self._draining_s
        self._writes.shorten(self._max_s)

    def _expire(self, call: RunningCall) -> None:
        _log.info("%s has stopped reading a stream; ending it", call.context.peer())
        call.end(self._slow_error())

    def _slow_error(self) -> SlowReader | Draining:
        if self._max_s < math.inf:
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

"""Writing to streams whose client may have stopped reading, with a timeout for each write.

A message that the client does not read blocks the write and everything behind it; only that message
is held in memory. After the timeout the call is ended, and grpc holds the message and the status: a
client that reads again receives them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NoReturn, cast

import grpc
from grpc import aio

from stagecast.deadlines import Deadlines
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
        deadlines: checks the writes, as long as there are any.
    """

    def __init__(self, blocked_s: float, *, draining_s: float, deadlines: Deadlines) -> None:
        self._blocked_s = self._limit_s = blocked_s
        self._draining_s = min(blocked_s, draining_s)
        self._draining = self._checked = False
        self._deadlines = deadlines
        self._writes: dict[
            asyncio.Task[Any], float
        ] = {}  # and when it has been blocked for too long
        self._cancelled: set[asyncio.Task[Any]] = set()

    async def write(self, context: Context, message: Any) -> None:  # noqa: ANN401 - any message
        """Write a message to a stream; wait as long as the client does not read.

        Raises:
            SlowReader: the client did not read it in time.
            Draining: the same, while the server drains.
        """
        if not self._checked:
            self._check_from_now_on()
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._writes[task] = task.get_loop().time() + self._limit_s
        try:
            await context.write(message)
        except asyncio.CancelledError:
            # Somebody else may have cancelled the task as well.
            if task not in self._cancelled or task.uncancel():
                raise
            _log.info("%s has stopped reading a stream; ending it", context.peer())
            raise self._slow_error() from None
        finally:
            del self._writes[task]
            if self._cancelled:
                self._cancelled.discard(task)

    def drain(self) -> None:
        """Shorten the time of every blocked write."""
        self._draining, self._limit_s = True, self._draining_s
        end_s = asyncio.get_running_loop().time() + self._limit_s
        for task, before_s in self._writes.items():
            self._writes[task] = min(end_s, before_s)
        if self._checked:
            self._check_from_now_on()

    def check(self, now_s: float, next_s: float) -> None:
        """Cancel writes that have been blocked for too long."""
        if not self._writes:
            self._checked = False
            self._deadlines.remove(self)
        for task, end_s in self._writes.items():
            if end_s <= now_s and task not in self._cancelled:
                self._cancelled.add(task)
                task.cancel()

    def _check_from_now_on(self) -> None:
        self._checked = True
        self._deadlines.add(self, self._limit_s)

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

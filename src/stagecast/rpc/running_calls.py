"""The running calls: counted until they end, and refused while the server drains."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

from grpc import aio

from stagecast.errors import Draining
from stagecast.grace import Endable, Grace
from stagecast.model import Caller

Context = aio.ServicerContext[Any, Any]


class RunningCall(Endable):
    """A call, until its answer is returned to grpc or its error is sent.

    Attributes:
        context: what grpc knows of it.
        caller: once it is admitted.
    """

    __slots__ = ("caller", "context")

    caller: Caller

    def __init__(self, context: Context) -> None:
        super().__init__()
        self.context = context


class RunningCalls(Grace):
    """Counts calls until their status is sent; once closed, refuses new ones."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = False
        self._ended = asyncio.Event()

    def begin(self, context: Context) -> RunningCall:
        """Count the call of the running task, unless closed."""
        call = RunningCall(context)
        if not self._closed:  # clients that retry all the time would delay a shutdown
            self._calls.add(call)
        return call

    def finish(self, call: RunningCall) -> None:
        """Stop counting a call."""
        self._calls.discard(call)
        if not self._calls:
            self._ended.set()

    def check(self) -> None:
        """Check that a new call may begin.

        Raises:
            Draining: closed.
        """
        if self._closed:
            raise Draining(
                "server is shutting down; try again",
                retry_after_s=random.uniform(0.1, 1.0),  # noqa: S311 - spreads reconnects
            )

    def close(self) -> None:
        """Refuse new calls from now on."""
        self._closed = True

    async def wait_until_empty(self, timeout_s: float) -> None:
        """Wait until no call is running, or the timeout is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._calls:
                    self._ended.clear()
                    await self._ended.wait()

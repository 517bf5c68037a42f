"""The time that running calls have to finish when the server stops."""

from __future__ import annotations

import asyncio
import random
from types import TracebackType
from typing import cast

from stagecast.errors import Draining, StagecastError


class Endable:
    """A block of the running task that others may end with an error.

    `asyncio.timeout` ends one in the same way, and costs each call several microseconds.
    """

    __slots__ = ("_before", "_ended_by", "_is_over", "task")

    def __init__(self) -> None:
        self.task = cast("asyncio.Task[object]", asyncio.current_task())
        self._before = self.task.cancelling()
        self._ended_by: StagecastError | None = None
        self._is_over = False

    def end(self, error: StagecastError | None = None) -> None:
        """Cancel the block, for this error or since the grace period is over.

        No effect once the block is over, or ended.
        """
        if self._ended_by is None and not self._is_over:
            self._ended_by = error or Draining(
                "server is shutting down; try again; a write may or may not have been recorded: "
                "send it with the same ids",
                retry_after_s=random.uniform(0.1, 1.0),  # noqa: S311 - spreads reconnects
            )
            self.task.cancel()

    def leave(self, error: BaseException | None) -> BaseException | None:
        """Declare the block over; return the error that it ended with, given the one in it."""
        self._is_over = True
        # Somebody else may have cancelled the task as well.
        if self._ended_by is None or self.task.uncancel() > self._before:
            return error
        return self._ended_by if isinstance(error, asyncio.CancelledError) else error


class Grace:
    """Ends the running calls with `Draining` when the grace period is over."""

    def __init__(self) -> None:
        self._calls: set[Endable] = set()

    def until_over(self) -> UntilOver:
        """Run a block until the grace period is over.

        Raises:
            Draining: it is over.
        """
        return UntilOver(self._calls)

    def end(self) -> None:
        """End the calls that are still running."""
        for call in self._calls:
            call.end()


class UntilOver(Endable):
    """A block that ends with the grace period."""

    __slots__ = ("_calls",)

    def __init__(self, calls: set[Endable]) -> None:
        super().__init__()
        self._calls = calls

    def __enter__(self) -> None:
        self._calls.add(self)

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._calls.discard(self)
        ended = self.leave(error)
        if ended is not None and ended is not error:
            raise ended from None

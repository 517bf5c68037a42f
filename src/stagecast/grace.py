"""The time that running calls have to finish when the server stops."""

from __future__ import annotations

import asyncio
import random
from types import TracebackType
from typing import cast

from stagecast.errors import Draining


class Grace:
    """Ends the running calls with `Draining` when the grace period is over."""

    def __init__(self) -> None:
        self._calls: set[_UntilOver] = set()

    def until_over(self) -> _UntilOver:
        """Run a block until the grace period is over.

        Raises:
            Draining: it is over.
        """
        return _UntilOver(self._calls)

    def end(self) -> None:
        """End the calls that are still running."""
        for call in self._calls:
            call.end()


class _UntilOver:
    """A block of a task, as `asyncio.timeout` is one; that costs each call several microseconds."""

    __slots__ = ("_before", "_calls", "_over", "_task")

    def __init__(self, calls: set[_UntilOver]) -> None:
        self._calls = calls
        self._over = False

    def __enter__(self) -> None:
        self._task = cast("asyncio.Task[object]", asyncio.current_task())
        self._before = self._task.cancelling()
        self._calls.add(self)

    def end(self) -> None:
        """End the block, unless it has ended: the time is over, or nobody awaits its result."""
        if self in self._calls and not self._over:
            self._over = True
            self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._calls.discard(self)
        # Somebody else may have cancelled the task as well.
        if not self._over or self._task.uncancel() > self._before:
            return
        if kind is asyncio.CancelledError:
            raise Draining(
                "server is shutting down; try again; a write may or may not have been recorded: "
                "send it with the same ids",
                retry_after_s=random.uniform(0.1, 1.0),  # noqa: S311 - spreads reconnects
            ) from None

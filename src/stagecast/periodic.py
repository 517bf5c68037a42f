"""Periodic tasks: work that a server repeats for as long as it runs, despite any error."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from stagecast.errors import Unavailable

_AFTER_FAULT_S = 1.0


class PeriodicTask:
    """Runs one kind of work and logs its errors.

    The same error is logged once until it is over: readiness reports a broken store as well, and a
    bug that repeats every second would bury all other messages.

    Args:
        log: the logger of the caller.
        work: what failed, completes the message "cannot …".
    """

    def __init__(self, log: logging.Logger, work: str) -> None:
        self._log = log
        self._work = work
        self._reported: tuple[type[Exception], str] | None = None

    async def attempt(self, work: Callable[[], Awaitable[object]]) -> float | None:
        """Run the work once; return `None`, or log the error and return seconds until a retry."""
        try:
            await work()
        # An error that ended the task would leave the work undone until a restart of the server.
        except Exception as error:
            return self.failed(error)
        self.succeeded()
        return None

    def failed(self, error: Exception) -> float:
        """Log an error while it is handled, unless it was the last one; return seconds to wait."""
        before, self._reported = self._reported, (type(error), str(error))
        is_new = self._reported != before
        if isinstance(error, Unavailable):
            if is_new:
                self._log.warning("cannot %s: %s", self._work, error)
            return error.retry_after_s
        if is_new:
            self._log.exception("cannot %s", self._work)
        return _AFTER_FAULT_S

    def succeeded(self) -> None:
        """Forget the last error, so that it is logged when it comes back."""
        self._reported = None

"""Chores: what a server does again and again for as long as it runs, whatever goes wrong."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from stagecast.errors import UnavailableError

_AFTER_FAULT_S = 1.0


class PeriodicTask:
    """One piece of such work.

    What goes wrong is told once until it is over, or something else goes wrong: a store that cannot
    be used is told by readiness as well, and a bug that shows every second would bury all else.

    Args:
        log: of who does it.
        work: what cannot be done then, to complete the words "cannot …".
    """

    def __init__(self, log: logging.Logger, work: str) -> None:
        self._log = log
        self._work = work
        self._reported: tuple[type[Exception], str] | None = None

    async def attempt(self, work: Callable[[], Awaitable[object]]) -> float | None:
        """Do it, or log why not; return after how many seconds to try again, `None` if done."""
        try:
            await work()
        except UnavailableError as error:
            if self._is_new(error):
                self._log.warning("cannot %s: %s", self._work, error)
            return error.retry_after_s
        # Were this to end a chore, nobody would do it until the server is started again.
        except Exception as error:
            if self._is_new(error):
                self._log.exception("cannot %s", self._work)
            return _AFTER_FAULT_S
        self._reported = None
        return None

    def _is_new(self, error: Exception) -> bool:
        before, self._reported = self._reported, (type(error), str(error))
        return self._reported != before

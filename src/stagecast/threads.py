"""Daemon threads: the event loop awaits their work, the end of the process does not.

A call to a disk that hangs never returns. At its end, a process waits without a limit for the
threads of asyncio and `concurrent.futures`, but not for daemon threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

_CLEANUP_S = 5.0  # for a cancelled call

_log = logging.getLogger(__name__)
_this_thread = threading.local()


async def run_in_daemon(call: Callable[[], T]) -> T:
    """Run a call on a thread of its own and return its result."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        call_on_loop(loop, run_for(future, call))

    threading.Thread(target=run, name="stagecast-daemon", daemon=True).start()
    return await future


async def run_cancellable(call: Callable[[], T], *, doing: str) -> T:
    """Run a call on a thread of its own and return its result.

    If the caller is cancelled, the call has a while to notice it by `is_cancelled` and to clean up.
    After that it is abandoned.

    Args:
        call: the work.
        doing: what it does, such as "opening a.db", for the log.
    """
    cancelled = threading.Event()

    def run() -> T:
        _this_thread.cancelled = cancelled
        return call()

    running = asyncio.create_task(run_in_daemon(run))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait((running,), timeout=_CLEANUP_S)
        if not running.done():
            running.cancel()
            _log.error(
                "gave up %s: it has not ended %g s after the signal; the disk may hang",
                doing,
                _CLEANUP_S,
            )
        elif not running.cancelled():
            running.exception()  # nobody else asks for it
        raise


def is_cancelled() -> bool:
    """Return whether the caller of `run_cancellable` on this thread was cancelled."""
    cancelled: threading.Event | None = getattr(_this_thread, "cancelled", None)
    return cancelled is not None and cancelled.is_set()


def run_for(future: asyncio.Future[T], call: Callable[[], T]) -> Callable[[], None]:
    """Run a call; return a function that settles its future, to be called on the loop."""
    try:
        return partial(settle, future, call())
    # Every error is for the caller: the thread may have to live on.
    except Exception as error:
        return partial(settle, future, error=error)


def settle(
    future: asyncio.Future[Any],
    result: Any = None,  # noqa: ANN401 - of any call
    error: Exception | None = None,
) -> None:
    """Set the result or the error of a call, unless its future is done or cancelled."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):  # a future refuses it, and would never be done
        future.set_exception(RuntimeError("a call ended in StopIteration"))
    else:
        future.set_exception(error)


def call_on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Call a function on the loop of another thread, unless that loop is closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)

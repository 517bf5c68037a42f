"""Threads whose work the event loop waits for, and the process never does.

A call to a disk that hangs does not come back. The process waits at its end for the threads of
asyncio and of `concurrent.futures`, without a limit; it does not for daemons.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


async def run_in_daemon(call: Callable[[], T]) -> T:
    """Run a call on a thread of its own and return its result."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        call_on_loop(loop, answered_by(answer, call))

    threading.Thread(target=run, name="stagecast-daemon", daemon=True).start()
    return await answer


def answered_by(answer: asyncio.Future[T], call: Callable[[], T]) -> Callable[[], None]:
    """Run a call; return what tells its outcome, to be called on the loop."""
    try:
        return partial(settle, answer, call())
    # Whatever it is, it is for who waits: the thread may have to live on.
    except Exception as error:
        return partial(settle, answer, error=error)


def settle(
    answer: asyncio.Future[Any],
    result: Any = None,  # noqa: ANN401 - of any call
    error: Exception | None = None,
) -> None:
    """Tell the outcome of a call, unless its caller is gone."""
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    elif isinstance(error, StopIteration):  # a future takes none, and would never be done
        answer.set_exception(RuntimeError("a call ended in StopIteration"))
    else:
        answer.set_exception(error)


def call_on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Call something on a loop of another thread; one that is closed has nobody left to tell."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)

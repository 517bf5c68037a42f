"""Calls that are queued for a thread of the store, first in, first out.

While a disk hangs, the queue holds live calls only: a cancelled caller removes a call that was not
begun. A call that was begun runs to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from stagecast.errors import StoreBusy
from stagecast.store.sqlite.connection import RETRY_AFTER_S

CallT = TypeVar("CallT", bound=Callable[..., Any])


class WaitingCall(NamedTuple, Generic[CallT]):
    """The future that a caller awaits, and its call."""

    answer: asyncio.Future[Any]
    call: CallT

    @property
    def is_abandoned(self) -> bool:
        """Whether its caller was cancelled."""
        return self.answer.done()


class CallQueue(Generic[CallT]):
    """A queue of calls from an event loop to threads; created on that loop.

    There is a token for each call, and no lock, which would cost a call more than its commit does
    in a group: a dictionary is changed by one thread at a time anyway. The token of a cancelled
    call stays, and is skipped.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: OrderedDict[asyncio.Future[Any], CallT] = OrderedDict()
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._closed = False

    def __len__(self) -> int:
        """Return the number of queued calls."""
        return len(self._waiting)

    @property
    def is_finished(self) -> bool:
        """Whether the queue is closed and empty."""
        return self._closed and not self._waiting

    async def submit(self, call: CallT) -> Any:  # noqa: ANN401 - what the call returns
        """Queue a call and wait for its result; cancelling removes it if it was not begun.

        Raises:
            StoreBusy: the store is closed.
        """
        if self._closed:
            raise StoreBusy("the store is closed", retry_after_s=RETRY_AFTER_S)
        answer = self._loop.create_future()
        self._waiting[answer] = call
        self._tokens.put(None)
        try:
            return await answer
        finally:
            self._waiting.pop(answer, None)

    def take(self, max_calls: int, *, timeout_s: float | None = None) -> list[WaitingCall[CallT]]:
        """Wait for a call, dequeue up to `max_calls`; none after a timeout, wake-up or end."""
        calls: list[WaitingCall[CallT]] = []
        with contextlib.suppress(queue.Empty):
            while len(calls) < max_calls:
                self._tokens.get(timeout=0 if calls else timeout_s)
                try:
                    waiting = self._waiting.popitem(last=False)
                except KeyError:  # the token of a cancelled call, of `wake`, or of the end
                    if self._closed:
                        self._tokens.put(None)  # for the next thread
                    break
                else:
                    calls.append(WaitingCall(*waiting))
        return calls

    def wake(self) -> None:
        """Let a waiting thread continue without a call."""
        self._tokens.put(None)

    def close(self) -> None:
        """Accept no more calls; queued calls are still answered."""
        self._closed = True
        self._tokens.put(None)

"""Calls that wait for a thread of the store, in the order in which they came.

While a disk hangs, only those wait that somebody waits for: who leaves takes a call along that was
not begun. What has begun goes on to its end.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from stagecast.errors import StoreBusy
from stagecast.store.sqlite.connection import RETRY_AFTER_S

CallT = TypeVar("CallT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class WaitingCall(Generic[CallT]):
    """A call, and where its caller waits."""

    call: CallT
    answer: asyncio.Future[Any]

    @property
    def is_abandoned(self) -> bool:
        """Whether its caller has left."""
        return self.answer.done()


class CallQueue(Generic[CallT]):
    """Calls of an event loop, which threads take. To be made on that loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: OrderedDict[asyncio.Future[Any], CallT] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        """Return how many calls wait."""
        return len(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether no call waits, and none will."""
        return self._closed and not self._waiting

    async def ask(self, call: CallT) -> Any:  # noqa: ANN401 - what the call returns
        """Wait until a thread has answered a call; to leave before it is begun undoes it.

        Raises:
            StoreBusy: the store is closed.
        """
        answer = self._loop.create_future()
        with self._changed:
            if self._closed:
                raise StoreBusy("the store is closed", retry_after_s=RETRY_AFTER_S)
            self._waiting[answer] = call
            self._changed.notify()
        try:
            return await answer
        finally:
            with self._changed:
                self._waiting.pop(answer, None)

    def take(self, max_calls: int, *, timeout_s: float | None = None) -> list[WaitingCall[CallT]]:
        """Wait for a call, and take those behind it; none if the time or the queue is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout_s)
            taken: list[WaitingCall[CallT]] = []
            while self._waiting and len(taken) < max_calls:
                answer, call = self._waiting.popitem(last=False)
                taken.append(WaitingCall(call, answer))
            return taken

    def close(self) -> None:
        """Take no more calls; those that wait are still to be answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

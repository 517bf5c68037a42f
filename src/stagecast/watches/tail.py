"""The end of a log, read and encoded once for all watches that follow it.

A tail subscribes to the notifier on behalf of its followers. It keeps the last pages only; a
follower further behind reads the store itself until it reaches the tail.
"""

from __future__ import annotations

import abc
import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from stagecast.errors import BatchDeleted, HistoryError, Unavailable, WatchExpired
from stagecast.notifier import Notifier, Subscription, Topic
from stagecast.store import Committed
from stagecast.watches.rounds import Rounds

_BYTES = 2 << 20  # of pages in a tail; one page may be larger
_PAGES = 64  # in a tail
_MAX_AGE_S = 2.0  # of pages: with any number of tails, only the newest writes stay in memory
_AFTER_FAULT_S = 1.0
# Commits, or transitions of one: above, reading them back costs less than encoding them again.
_SHORT = 16

_log = logging.getLogger(__name__)

C = TypeVar("C")
"""A position in a log."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogPage(abc.ABC, Generic[C]):
    """The result of one read: what is between two positions of a log.

    `caught_up`: the read reached the end of the log.
    """

    before: C
    after: C
    caught_up: bool

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Size in bytes."""


P = TypeVar("P", bound=LogPage[Any])


class Tail(Generic[C, P]):
    """The newest pages of one log, as long as it has followers.

    Attributes:
        end: the position that it has read up to; `None` until a follower has found it, also again
            after the log was deleted, trimmed or replaced.
        followers: are woken when there is news.
    """

    def __init__(
        self,
        read: Callable[[C, Sequence[Committed]], Awaitable[P]],
        rounds: Rounds,
        pause_s: float,
    ) -> None:
        self.end: C | None = None
        self.followers: set[Subscription] = set()
        self._missed = False  # a notification came while there was no end to read from
        self._read = read
        self._rounds = rounds
        self._pause_s = pause_s
        self._committed: list[Committed] = []  # since the last read
        self._pages: deque[P] = deque()
        self._times_s: deque[float] = deque()  # of the pages
        self._ageing: asyncio.TimerHandle | None = None
        self._subscription: Subscription

    def newest_first(self) -> Iterator[P]:
        """Return the pages, the newest first."""
        return iter(reversed(self._pages))

    def begin_at(self, end: C) -> None:
        """Start at the end of the log, as a follower has read it, unless it runs already."""
        if self.end is None:
            self.end = end
            if self._missed:
                self._missed = False
                self._subscription.notify()

    def note(self, committed: Committed | None) -> None:
        """Remember a commit of this process for the next read, if it is a small one."""
        if committed is None or len(committed.transitions) + len(self._committed) > _SHORT:
            self._committed.clear()
        else:
            self._committed.append(committed)

    async def run(self, notifier: Notifier, topics: Sequence[Topic]) -> None:
        """Read page after page until cancelled."""
        try:
            with notifier.subscribe(*topics, receive=self.note) as self._subscription:
                while True:
                    await self._follow()
        finally:
            self._rounds.leave(self)
            if self._ageing is not None:
                self._ageing.cancel()

    async def _follow(self) -> None:
        """Read what follows a notification."""
        retry_after_s = 0.0
        await self._subscription.wait()
        try:
            await self._rounds.begin(self)
            must_read = self._subscription.must_read
            self._subscription.clear()
            await self._read_on(must_read)
        except (BatchDeleted, HistoryError, WatchExpired):
            self.end = None
            self._committed.clear()
            self._forget_pages()
            await self._rounds.wake(self.followers)  # they find out by their own reads
        except Unavailable as error:
            retry_after_s = error.retry_after_s
        except Exception:
            _log.exception("cannot read the log for %d watches", len(self.followers))
            retry_after_s = _AFTER_FAULT_S
        finally:
            self._rounds.done(self)
        if retry_after_s:
            self._subscription.notify()
        if pause_s := max(retry_after_s, self._pause_s):
            await asyncio.sleep(pause_s)

    async def _read_on(self, must_read: bool) -> None:
        """Read to the end of the log, a page a round, and wake the followers at each.

        What this process has committed need not be the end, if another has committed after it.
        """
        self._missed = self.end is None
        while self.end is not None:
            committed, self._committed = self._committed, []
            page = await self._read(self.end, () if must_read else committed)
            if page.after != self.end:
                self._append(page)
                await self._rounds.wake(self.followers)
            if page.caught_up:
                return
            await self._rounds.go_on(self)

    def _append(self, page: P) -> None:
        self.end = page.after
        loop = asyncio.get_running_loop()
        self._pages.append(page)
        self._times_s.append(loop.time())
        retained = sum(one.size for one in self._pages)
        while (retained > _BYTES and len(self._pages) > 1) or len(self._pages) > _PAGES:
            retained -= self._pages[0].size
            self._drop_oldest()
        if self._ageing is None:
            self._ageing = loop.call_later(_MAX_AGE_S, self._drop_old)

    def _forget_pages(self) -> None:
        self._pages.clear()
        self._times_s.clear()

    def _drop_oldest(self) -> None:
        self._pages.popleft()
        self._times_s.popleft()

    def _drop_old(self) -> None:
        loop, self._ageing = asyncio.get_running_loop(), None
        while self._pages and self._times_s[0] + _MAX_AGE_S <= loop.time():
            self._drop_oldest()
        if self._pages:
            self._ageing = loop.call_at(self._times_s[0] + _MAX_AGE_S, self._drop_old)


K = TypeVar("K", bound=Hashable)


class Tails(Generic[K, C, P]):
    """The tails of all logs of one kind that are watched on this server.

    Args:
        topics: returns those that notify of a log.
        read: returns the page of a log after a position, given what this process has committed to
            it since the last page; without anybody's visibility: each follower has read the store
            with its own before.
        pause_s: between two reads of a tail.
    """

    def __init__(
        self,
        notifier: Notifier,
        rounds: Rounds,
        *,
        topics: Callable[[K], Sequence[Topic]],
        read: Callable[[K, C, Sequence[Committed]], Awaitable[P]],
        pause_s: float = 0.0,
    ) -> None:
        self._notifier = notifier
        self._rounds = rounds
        self._topics = topics
        self._read = read
        self._pause_s = pause_s
        self._tails: dict[K, tuple[Tail[C, P], asyncio.Task[None]]] = {}

    def join(self, key: K, follower: Subscription) -> Tail[C, P]:
        """Return the tail of a log, which runs as long as it has followers."""
        if key not in self._tails:
            tail: Tail[C, P] = Tail(partial(self._read, key), self._rounds, self._pause_s)
            running = asyncio.create_task(tail.run(self._notifier, self._topics(key)))
            self._tails[key] = tail, running
        tail, _ = self._tails[key]
        tail.followers.add(follower)
        return tail

    def leave(self, key: K, follower: Subscription) -> None:
        """Follow a log no more."""
        tail, running = self._tails[key]
        tail.followers.remove(follower)
        if not tail.followers:
            running.cancel()
            del self._tails[key]

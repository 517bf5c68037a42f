"""Heartbeats and ends come in time, whatever a watch waits for."""

from __future__ import annotations

import asyncio
import contextlib
import operator
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from stagecast.config import Config
from stagecast.errors import Draining, StoreBusy, WatchExpired
from stagecast.notifier import Notifier
from stagecast.watches import Receiver, Rounds, Shared
from stagecast.watches.deadlines import Deadlines
from stagecast.watches.tail import LogPage, Tails
from stagecast.watches.watch import Watch
from tests.access import ANY_CALLER
from tests.conditions import until
from tests.watches.reading import Client

NEVER_S = 1e6
BRIEFLY_S = 0.02
HEARTBEAT = b"heartbeat"


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbers(LogPage[int]):
    """A page of a log of numbers."""

    @property
    def size(self) -> int:
        return 1


def page_to(after: int) -> Numbers:
    return Numbers(before=0, after=after, caught_up=True)


class NumberWatch(Watch[int, Numbers]):
    """A watch of a log of numbers, which sends each page's end."""

    def __init__(
        self,
        shared: Shared,
        receiver: Receiver,
        heartbeat_s: float,
        query: Callable[[], Awaitable[Numbers]],
    ) -> None:
        super().__init__(shared, receiver, heartbeat_s)
        self.cursor = 0
        self._query = query

    def heartbeat(self) -> bytes:
        return HEARTBEAT

    def is_at(self, position: int) -> bool:
        return position == self.cursor

    async def read(self) -> Numbers:
        return await self._query()

    def advance(self, page: Numbers) -> bytes:
        self.cursor = page.after
        return b"%d" % page.after


@dataclass
class Site:
    """What a watch needs, and what it sends."""

    config: Config
    notifier: Notifier = field(default_factory=Notifier)
    deadlines: Deadlines = field(default_factory=Deadlines)
    rounds: Rounds = field(default_factory=Rounds)
    sent: list[bytes] = field(default_factory=list)
    read_by_tail: list[int] = field(default_factory=list)

    def watch(
        self, query: Callable[[], Awaitable[Numbers]], heartbeat_s: float = NEVER_S
    ) -> NumberWatch:
        shared = Shared(self.notifier, self.deadlines, self.rounds, self.config)
        receiver = Client(caller=ANY_CALLER, begin=self._begin, send=self._send)
        return NumberWatch(shared, receiver, heartbeat_s, query)

    @contextlib.asynccontextmanager
    async def running(self, *watches: NumberWatch) -> AsyncIterator[list[asyncio.Task[None]]]:
        tails: Tails[str, int, Numbers] = Tails(
            self.notifier, self.rounds, topics=lambda name: [(name,)], read=self._read
        )

        async def run(watch: NumberWatch) -> None:
            with watch.opened(tails, "numbers"):
                await watch.follow()

        tasks = [asyncio.create_task(run(watch)) for watch in watches]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _begin(self) -> None:
        pass

    async def _send(self, message: bytes) -> None:
        self.sent.append(message)

    async def _read(self, _name: str, after: int, _committed: object) -> Numbers:
        self.read_by_tail.append(after)
        return Numbers(before=after, after=after + 1, caught_up=True)


@pytest.fixture
async def site(config: Config) -> Site:
    return Site(replace(config, watch_life_s=NEVER_S))


@pytest.mark.parametrize(
    ("heartbeat_s", "min_s", "max_s"), [(300.0, 290.0, 299.5), (1.0, 0.5, 0.9)]
)
async def test_heartbeat_is_due_a_little_before_the_client_misses_it(
    site: Site, heartbeat_s: float, min_s: float, max_s: float
) -> None:
    now = asyncio.get_running_loop().time
    before_s = now()
    watch = site.watch(_never, heartbeat_s)
    async with site.running(watch):
        await asyncio.sleep(0)  # it reads
        watch.check(before_s, before_s + min_s)
        assert not watch._heartbeat_due
        watch.check(before_s, now() + max_s)
        await until(lambda: site.sent == [HEARTBEAT])
        assert not watch._heartbeat_due


async def test_watches_that_begin_together_do_not_end_together(config: Config) -> None:
    now = asyncio.get_running_loop().time
    site = Site(replace(config, watch_life_s=1_000.0))
    before_s = now()
    ends_s = [site.watch(_never)._end_s for _ in range(50)]
    assert len({round(end_s / 10) for end_s in ends_s}) > 5
    assert all(before_s + 900 <= end_s <= now() + 1_100 for end_s in ends_s)


async def test_watches_that_end_together_do_not_reconnect_together(config: Config) -> None:
    expiring, draining = Site(replace(config, watch_life_s=BRIEFLY_S)), Site(config)
    for site, kind in ((expiring, WatchExpired), (draining, Draining)):
        async with site.running(*(site.watch(_never) for _ in range(50))) as tasks:
            if site is draining:
                await asyncio.sleep(0)
                site.notifier.close()
            async with asyncio.timeout(60):
                errors = await asyncio.gather(*tasks, return_exceptions=True)
        pauses = {error.retry_after_s for error in errors if isinstance(error, kind)}
        assert len(pauses) > 25
        assert all(0 <= pause <= 1 for pause in pauses)


async def test_slow_read_continues_after_heartbeats(site: Site) -> None:
    answered, reads = asyncio.Event(), 0

    async def read() -> Numbers:
        nonlocal reads
        reads += 1
        await answered.wait()
        return page_to(7)

    async with site.running(site.watch(read, BRIEFLY_S)):
        await until(lambda: site.sent[:3] == [HEARTBEAT] * 3)
        answered.set()
        await until(lambda: b"7" in site.sent)
        assert reads == 1


async def test_failed_read_is_followed_by_a_new_one(site: Site) -> None:
    results = iter((StoreBusy("locked", retry_after_s=BRIEFLY_S), page_to(7)))

    async def read() -> Numbers:
        result = next(results)
        if isinstance(result, StoreBusy):
            raise result
        return result

    async with site.running(site.watch(read)):
        await until(lambda: site.sent == [b"7"])


async def test_heartbeats_are_sent_during_the_pause_after_a_failed_read(site: Site) -> None:
    async def read() -> Numbers:
        raise StoreBusy("locked", retry_after_s=NEVER_S)

    async with site.running(site.watch(read, BRIEFLY_S)):
        await until(lambda: site.sent[:3] == [HEARTBEAT] * 3)


async def test_end_of_a_watch_cancels_its_read(site: Site) -> None:
    reading, cancelled = asyncio.Event(), asyncio.Event()

    async def read() -> Numbers:
        reading.set()
        try:
            return await _never()
        finally:
            cancelled.set()

    async with asyncio.timeout(60):
        async with site.running(site.watch(read)):
            await reading.wait()
        await cancelled.wait()


async def test_watches_at_the_end_share_the_reads_of_their_tail(site: Site) -> None:
    reads = 0

    async def read() -> Numbers:
        nonlocal reads
        reads += 1
        return page_to(7)

    watches = [site.watch(read) for _ in range(100)]
    async with site.running(*watches):
        await until(lambda: site.sent == [b"7"] * 100)
        for expected in ([b"8"] * 100, [b"9"] * 100):
            site.sent.clear()
            site.notifier.notify([("numbers",)])
            await until(partial(operator.eq, site.sent, expected))
    assert (reads, site.read_by_tail) == (100, [7, 8])


async def test_page_that_comes_during_a_read_without_news_is_sent(site: Site) -> None:
    """The wake-up for it does not come again after the read."""
    reading, answered = asyncio.Event(), asyncio.Event()

    async def read() -> Numbers:
        reading.set()
        await answered.wait()
        return Numbers(before=6, after=6, caught_up=True)

    async def read_first() -> Numbers:
        return page_to(5)

    ahead = site.watch(read)
    ahead.cursor = 6  # the tail has not read so far yet
    async with site.running(site.watch(read_first), ahead):
        await reading.wait()
        await until(lambda: site.sent == [b"5"])
        for sent in (b"6", b"7"):
            site.notifier.notify([("numbers",)])
            await until(partial(operator.contains, site.sent, sent))
        answered.set()
        await until(lambda: site.sent.count(b"7") == 2)


async def test_nothing_is_left_of_a_watch(site: Site) -> None:
    async with site.running(site.watch(_never)):
        await until(lambda: site.deadlines._timer is not None)
    assert site.deadlines._timer is None
    await until(lambda: not site.notifier.topics())
    assert not site.notifier._all


async def _never() -> Numbers:
    never: asyncio.Future[Numbers] = asyncio.get_running_loop().create_future()
    return await never

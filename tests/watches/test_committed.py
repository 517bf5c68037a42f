"""What this process commits is pushed without reading it back, and only if nothing is missing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from stagecast import wire
from stagecast.config import Config
from stagecast.model import ALL, MESSAGE_BYTES, Batch, Stage, retry
from stagecast.notifier import Notifier
from stagecast.store import Commits, Committed, Store
from stagecast.store.sqlite import SqliteStore
from stagecast.v1 import resources_pb2 as r
from stagecast.v1 import status_service_pb2 as s
from stagecast.watches.log import Cursor, Page, committed_page, end_cursor, read_page
from tests.builders import (
    BATCH_ID,
    DATASET_ID,
    ENCODER,
    ERROR,
    counted,
    create,
    get_batch,
    move,
    report_of,
    started,
    watch_request,
)
from tests.clock import Clock
from tests.conditions import until
from tests.watches.reading import messages_of, open_batch_watches

NAME = (DATASET_ID, BATCH_ID)
PARSED = report_of(stage=Stage.PARSING, progress=counted(1, 2))


def open_store(
    config: Config, clock: Clock, on_commit: Callable[[Commits], None] = lambda _: None
) -> SqliteStore:
    return SqliteStore(
        config.db,
        clock=clock,
        encoder=ENCODER,
        on_commit=on_commit,
        on_foreign_commit=lambda: None,
    )


class Site:
    """A store that counts reads, its notifier, and what it has committed to the batch."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.notifier = Notifier()
        self.commits: list[Committed] = []
        self.reads = 0
        self.store = open_store(config, clock, self._on_commit)

    def _on_commit(self, commits: Commits) -> None:
        self.commits += [one for one in commits.values() if one is not None]
        self.notifier.pass_on(commits)

    async def read(self, *args: Any, **kwargs: Any) -> Any:
        self.reads += 1
        return await self.store.read(*args, **kwargs)

    async def end(self) -> Cursor:
        batch = await get_batch(self.store)
        return await self.store.read(lambda tx: end_cursor(tx, batch), visible=ALL)

    async def page_after(self, cursor: Cursor) -> Page:
        query = partial(
            read_page, name=NAME, cursor=cursor, progress=True, encode=wire.WatchEncoder()
        )
        return await self.store.read(query, visible=ALL)


@pytest.fixture
async def site(config: Config, clock: Clock) -> AsyncIterator[Site]:
    site = Site(config, clock)
    try:
        yield site
    finally:
        await site.store.close()


def page_of(cursor: Cursor, *commits: Committed) -> Page | None:
    return committed_page(NAME, cursor, commits, encode=wire.WatchEncoder())


async def begin(site: Site, **changes: Any) -> tuple[Batch, Cursor]:
    """Create a batch and return it with the end of its log."""
    batch = await create(site.store, documents=2, **changes)
    site.commits.clear()
    return batch, await site.end()


async def test_commits_give_the_same_page_as_a_read(site: Site, clock: Clock) -> None:
    batch, start = await begin(site, labels={"k": "v"})
    batch = await move(site.store, batch, (0, started), (1, started))
    clock.advance(1)
    await move(site.store, batch, (0, PARSED))
    page, read = page_of(start, *site.commits), await site.page_after(start)
    assert len(site.commits) == 2
    assert page is not None
    assert [_parsed(entry) for _, entry in page.transitions] == [
        _parsed(entry) for _, entry in read.transitions
    ]
    assert (page.before, page.after, page.batch) == (read.before, read.after, read.batch)
    assert (page.whole, page.caught_up, page.ended) == (read.whole, read.caught_up, read.ended)


async def test_commits_before_the_cursor_are_passed_over(site: Site) -> None:
    batch, _ = await begin(site)
    batch = await move(site.store, batch, (0, started))
    middle = await site.end()
    await move(site.store, batch, (0, PARSED))
    page = page_of(middle, *site.commits)
    assert page is not None
    assert [revision for revision, _ in page.transitions] == [middle.revision + 1]
    assert page_of(await site.end(), *site.commits) is None


async def test_gap_is_read_from_the_store(site: Site) -> None:
    batch, start = await begin(site)
    for change in (started, PARSED, report_of(stage=Stage.CLEANING)):
        batch = await move(site.store, batch, (0, change))
    first, _, last = site.commits
    assert page_of(start, last) is None
    assert page_of(start, first, last) is None


async def test_commits_that_do_not_fit_into_a_message_are_read(site: Site) -> None:
    """They would exceed what clients accept; a page that is read is cut."""
    batch, start = await begin(site)
    long = report_of(error=replace(ERROR, message="m" * (MESSAGE_BYTES * 2 // 3)))
    batch = await move(site.store, batch, (0, long))
    assert page_of(start, *site.commits) is not None
    await move(site.store, batch, (1, long))
    assert page_of(start, *site.commits) is None


@pytest.mark.parametrize(
    "change", [{"write_id": 1}, {"key": 77}, {"progress_seq": 1}, {"server_epoch": 1}]
)
async def test_other_history_is_read_from_the_store(site: Site, change: dict[str, int]) -> None:
    batch, start = await begin(site)
    await move(site.store, batch, (0, started))
    assert page_of(start, *site.commits) is not None
    assert page_of(replace(start, **change), *site.commits) is None


async def test_counters_are_read_from_the_store(site: Site) -> None:
    batch, _ = await begin(site)
    batch = await move(site.store, batch, (0, started))
    start = await site.end()
    site.commits.clear()
    batch = await move(site.store, batch, (0, report_of(progress=counted(1))))
    assert page_of(start, *site.commits) is None
    await move(site.store, batch, (1, started))
    assert page_of(start, *site.commits) is None


async def test_end_is_read_from_the_store(site: Site) -> None:
    """Another process may have reopened the batch since."""
    batch, start = await begin(site)
    batch = await move(site.store, batch, *((n, report_of(stage=Stage.COMPLETED)) for n in (0, 1)))
    assert page_of(start, *site.commits) is None
    await move(site.store, batch, (0, lambda one, _: retry(one)))
    page = page_of(start, *site.commits)
    assert page is not None
    assert not page.ended


@contextlib.asynccontextmanager
async def watched(site: Site, config: Config, clock: Clock) -> AsyncIterator[Any]:
    """Watch the batch up to its end, and count reads from then on."""
    watches = open_batch_watches(cast("Store", site), site.notifier, config, clock)
    async with contextlib.aclosing(
        messages_of(partial(watches.watch, watch_request()))
    ) as messages:
        assert _parsed(await anext(messages)).snapshot.complete
        site.reads = 0
        yield messages


async def test_commit_of_this_process_is_pushed_without_a_read(
    site: Site, config: Config, clock: Clock
) -> None:
    batch, _ = await begin(site)
    async with watched(site, config, clock) as messages:
        for change in (started, PARSED):
            batch = await move(site.store, batch, (0, change))
            message = _parsed(await anext(messages))
            assert [t.revision for t in message.transitions] == [batch.revision]
            assert message.batch.revision == batch.revision
        assert site.reads == 0


@pytest.mark.parametrize("noticed_first", [False, True])
async def test_commit_of_another_process_after_that_of_this_one_is_pushed(
    site: Site, config: Config, clock: Clock, noticed_first: bool
) -> None:
    """Both are noticed before the tail reads: what is passed on is not the end of the log."""
    batch, _ = await begin(site)
    mine: list[Commits] = []
    store, other = open_store(config, clock, mine.append), open_store(config, clock)
    async with watched(site, config, clock) as messages:
        await move(store, batch, (0, started))
        batch = await move(other, batch, (1, started))
        pass_on = partial(site.notifier.pass_on, mine[0])
        notice = partial(site.notifier.notify_only, [NAME])
        for notify in (notice, pass_on) if noticed_first else (pass_on, notice):
            notify()
        async with asyncio.timeout(60):
            while _parsed(await anext(messages)).revision < batch.revision:
                pass
    await store.close()
    await other.close()


async def test_watch_that_is_behind_goes_on_after_an_end_that_was_undone(
    site: Site, config: Config, clock: Clock
) -> None:
    """The tail has the page up to the end in memory, and the retry after it."""
    batch, start = await begin(site)
    watches = open_batch_watches(cast("Store", site), site.notifier, config, clock)
    async with contextlib.aclosing(
        messages_of(partial(watches.watch, watch_request()))
    ) as messages:
        assert _parsed(await anext(messages)).snapshot.complete  # and is not read on yet
        [(tail, _)] = watches._tails._tails.values()
        completed = report_of(stage=Stage.COMPLETED)
        for moves in (
            [(number, completed) for number in (0, 1)],
            [(0, lambda one, _: retry(one))],
        ):
            batch = await move(site.store, batch, *moves)
            revision = batch.revision
            await until(lambda end=revision: tail.end.revision == end)  # type: ignore[misc, union-attr]  # of mypy
        async with asyncio.timeout(60):
            revisions = [
                t.revision
                for message in (await anext(messages), await anext(messages))
                for t in _parsed(message).transitions
            ]
    assert revisions == list(range(start.revision + 1, batch.revision + 1))


async def test_watch_without_counters_ends_while_counters_are_left_to_read(
    site: Site, config: Config, clock: Clock
) -> None:
    """They are more than a page has, and come together with the end."""
    count = 1_500
    batch = await create(site.store, documents=count)
    counters = [(number, report_of(progress=counted(1))) for number in range(count)]
    ends = [(number, report_of(stage=Stage.COMPLETED)) for number in range(count)]
    watches = open_batch_watches(cast("Store", site), site.notifier, config, clock)
    async with contextlib.aclosing(
        messages_of(partial(watches.watch, watch_request(transitions_only=True)))
    ) as messages:
        while not (last := _parsed(await anext(messages))).snapshot.complete:
            pass
        following = asyncio.ensure_future(anext(messages))
        await asyncio.gather(*(move(site.store, batch, *moves) for moves in (counters, ends)))
        async with asyncio.timeout(60):
            last = _parsed(await following)
            async for message in messages:
                last = _parsed(message)
    assert last.batch.state == r.BATCH_STATE_SUCCEEDED


@pytest.mark.parametrize("reopened", [False, True])
async def test_end_is_read_again_after_a_snapshot_in_parts(
    site: Site, config: Config, clock: Clock, reopened: bool
) -> None:
    """The batch had ended when the first part was read."""
    count = 2_001
    batch = await create(site.store, documents=count)
    completed = report_of(stage=Stage.COMPLETED)
    batch = await move(site.store, batch, *((number, completed) for number in range(count)))
    watches = open_batch_watches(cast("Store", site), site.notifier, config, clock)
    async with contextlib.aclosing(
        messages_of(partial(watches.watch, watch_request()))
    ) as messages:
        assert not _parsed(await anext(messages)).snapshot.complete
        if reopened:
            await move(site.store, batch, (0, lambda one, _: retry(one)))
        async with asyncio.timeout(60):
            assert _parsed(await anext(messages)).snapshot.complete
            last = _parsed(await anext(messages))
            assert [t.revision for t in last.transitions] == [batch.revision + 1] * reopened
            if not reopened:
                assert last.batch.state == r.BATCH_STATE_SUCCEEDED
                assert not [message async for message in messages]


async def test_large_commit_is_read(site: Site, config: Config, clock: Clock) -> None:
    batch = await create(site.store, documents=20)
    async with watched(site, config, clock) as messages:
        await move(site.store, batch, *((number, started) for number in range(20)))
        assert len(_parsed(await anext(messages)).transitions) == 20
        assert site.reads == 1


def _parsed(message: bytes) -> s.WatchBatchResponse:
    return s.WatchBatchResponse.FromString(message)

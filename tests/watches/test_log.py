"""Every read compares its cursor with the history of the batch."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from stagecast import wire
from stagecast.config import Config
from stagecast.errors import HistoryChanged, TokenExpired
from stagecast.model import ALL, Batch, SnapshotReason
from stagecast.store import HistoryLimit, ReadTransaction, check_history
from stagecast.store.sqlite import SqliteStore
from stagecast.watches.log import Cursor, end_cursor, read_page
from stagecast.watches.snapshots import Origin, Snapshots
from tests.builders import BATCH_ID, DATASET_ID, counted, move, report_of
from tests.clock import Clock
from tests.store.history import make_ended, retried
from tests.store.test_integrity import opened

NAME = (DATASET_ID, BATCH_ID)


@pytest.fixture
async def store(config: Config, clock: Clock) -> AsyncIterator[SqliteStore]:
    async with opened(config.db, clock) as store:
        yield store


async def _end(store: SqliteStore, batch: Batch) -> Cursor:
    return await store.read(lambda tx: end_cursor(tx, batch), visible=ALL)


async def _check(store: SqliteStore, batch: Batch, cursor: Cursor) -> bool:
    return await store.read(lambda tx: check_history(tx, batch, cursor), visible=ALL)


async def test_cursor_of_the_history_passes(store: SqliteStore) -> None:
    batch = await make_ended(store)
    assert await _check(store, batch, await _end(store, batch))


@pytest.mark.parametrize("change", [{"write_id": 1}, {"revision": 10_000}, {"progress_seq": 1_000}])
async def test_cursor_of_another_history_is_refused_by_every_read(
    store: SqliteStore, clock: Clock, change: dict[str, int]
) -> None:
    batch = await make_ended(store)
    batch = await move(store, batch, (0, retried))
    batch = await move(store, batch, (0, report_of(progress=counted(1))))
    cursor = replace(await _end(store, batch), **change)
    snapshots = Snapshots(store, encode=wire.WatchEncoder(), clock=clock)

    def read_part(tx: ReadTransaction) -> object:
        return snapshots._read_part(tx, Origin(batch, cursor, b"", SnapshotReason.INITIAL), -1)

    read = functools.partial(
        read_page, name=NAME, cursor=cursor, progress=True, encode=wire.WatchEncoder()
    )
    for query in (read, read_part):
        with pytest.raises(HistoryChanged, match="another history"):
            await store.read(query, visible=ALL)


async def test_trimmed_transition_shows_no_history(store: SqliteStore, clock: Clock) -> None:
    batch = await make_ended(store)
    cursor = replace(await _end(store, batch), revision=3)
    limit = HistoryLimit(ended_until=clock.now_us, keep=1)
    while await store.write(lambda tx: tx.trim(limit, 1_000), visible=ALL):
        pass
    assert not await _check(store, batch, cursor)
    read = functools.partial(
        read_page, name=NAME, cursor=cursor, progress=True, encode=wire.WatchEncoder()
    )
    with pytest.raises(TokenExpired):
        await store.read(read, visible=ALL)

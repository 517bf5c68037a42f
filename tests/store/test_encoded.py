"""What is kept encoded in an SQLite file is used, and only as long as the columns agree with it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from stagecast.model import ALL, Batch, Document, Stage
from stagecast.store import Encoder, Store
from stagecast.store.sqlite import SqliteStore
from stagecast.wire import StoreEncoder
from tests.builders import (
    BATCH_ID,
    ENCODER,
    counted,
    create,
    edit_of,
    get_batch,
    get_documents,
    move,
    register_documents,
    report_of,
    started,
)
from tests.clock import Clock
from tests.store.encoded import check, encoded_documents, make_varied
from tests.store.encoded_rows import encoded_of, left_to_encode
from tests.store.history import make_ended, trim
from tests.store.previous_release import write_as_before


class CountingEncoder(StoreEncoder):
    """Counts the pieces that it encodes."""

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.identities = self.conditions = 0

    def identity(self, document: Document) -> bytes:
        self.identities += 1
        return super().identity(document) + self._addition()

    def condition(self, document: Document) -> bytes:
        self.conditions += 1
        return super().condition(document) + self._addition()

    def _addition(self) -> bytes:
        """Return what another version has added."""
        return b"" if self.version == 1 else b"version %d" % self.version


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stagecast.db"


@contextlib.asynccontextmanager
async def opened(
    path: Path, clock: Callable[[], int], encoder: Encoder = ENCODER
) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(
        path,
        clock=clock,
        encoder=encoder,
        on_commit=lambda _: None,
        on_foreign_commit=lambda: None,
    )
    try:
        yield store
    finally:
        await store.close()


async def add(store: Store, batch: Batch, count: int) -> None:
    """Register more documents, with labels."""

    def register(tx: Any) -> None:
        edit = edit_of(tx, batch)
        register_documents(edit, count, display_name="läte", labels={"k": "v"})
        tx.save(edit)

    await store.write(register, visible=ALL)


async def read_all(store: Store, batch: Batch) -> None:
    await store.read(lambda tx: encoded_documents(tx, batch), visible=ALL)
    await store.read(
        lambda tx: list(tx.iterate_encoded_transitions(batch, after_revision=0)), visible=ALL
    )
    await store.read(lambda tx: tx.find_encoded_document(batch, "doc-1"), visible=ALL)


async def test_nothing_is_encoded_when_it_is_read(path: Path, clock: Clock) -> None:
    encoder = CountingEncoder()
    async with opened(path, clock, encoder) as store:
        batch = await make_varied(store)
        await move(store, batch, (6, report_of(progress=counted(5))))
        encoder.identities = encoder.conditions = 0
        await read_all(store, await get_batch(store))
    assert (encoder.identities, encoder.conditions) == (0, 0)


async def test_condition_is_encoded_once_for_the_document_and_the_log(
    path: Path, clock: Clock
) -> None:
    encoder = CountingEncoder()
    async with opened(path, clock, encoder) as store:
        batch = await create(store, documents=3)
        assert (encoder.identities, encoder.conditions) == (3, 3)
        await move(store, batch, (0, started), (1, started))
        assert (encoder.identities, encoder.conditions) == (3, 5)


# The release before writes into the file.


async def write_more(store: Store, batch: Batch) -> None:
    """Change some documents by transitions, some by counters only, and add some."""
    await move(store, batch, (0, started), (3, report_of(stage=Stage.COMPLETED)))
    await move(store, batch, (2, report_of(progress=counted(7, 8))))
    await add(store, batch, 2)
    await move(store, batch, (4, started))


@pytest.fixture
async def newer(path: Path, clock: Clock, tmp_path: Path) -> Path:
    """A copy of the file in which more was written, by this release."""
    async with opened(path, clock) as store:
        await make_varied_open(store)
    newer = tmp_path / "newer.db"
    shutil.copy(path, newer)
    clock.advance(5)
    async with opened(newer, clock) as store:
        await write_more(store, await get_batch(store))
    return newer


async def make_varied_open(store: Store) -> None:
    await create(store, "other", documents=3)
    await create(store, documents=4, sealed=False)
    batch = await get_batch(store)
    await move(store, batch, (2, started), (3, report_of(stage=Stage.INDEXING)))
    await move(store, batch, (2, report_of(progress=counted(4, 9))))


async def test_columns_win_when_the_release_before_writes_while_this_one_serves(
    path: Path, newer: Path, clock: Clock
) -> None:
    async with opened(path, clock) as store, opened(newer, clock) as other:
        await check(store, await get_batch(store))
        write_as_before(newer, path)
        batch = await get_batch(store)
        assert batch == await get_batch(other)
        assert await get_documents(store, batch) == await get_documents(other, batch)
        assert left_to_encode(path) > 0
        await check(store, batch)


async def test_this_release_continues_after_the_release_before(
    path: Path, newer: Path, clock: Clock
) -> None:
    """A row that it writes has no identity yet, or one of the release that registered it."""
    write_as_before(newer, path)
    async with opened(path, clock) as store:
        batch = await get_batch(store)
        await move(store, batch, (0, report_of(stage=Stage.PARSING)), (5, started))
        await move(store, batch, (4, report_of(progress=counted(3))))
        await check(store, await get_batch(store))


@pytest.mark.parametrize("limit", [1, 3, 1_000])
async def test_rows_of_the_release_before_are_encoded_in_steps(
    path: Path, newer: Path, clock: Clock, limit: int
) -> None:
    write_as_before(newer, path)
    encoder = CountingEncoder()
    async with opened(path, clock, encoder) as store:
        while left := left_to_encode(path):
            assert await store.write(lambda tx: tx.encode(limit), visible=ALL)
            assert left_to_encode(path) == max(0, left - limit)
            await check(store, await get_batch(store))
        assert not await store.write(lambda tx: tx.encode(limit), visible=ALL)
        encoder.identities = encoder.conditions = 0
        await read_all(store, await get_batch(store))
        assert (encoder.identities, encoder.conditions) == (0, 0)
    assert encoded_of(path) == encoded_of(newer), "as if this release had written all"


async def test_documents_of_a_trimmed_log_are_sent(path: Path, clock: Clock) -> None:
    async with opened(path, clock) as store:
        batch = await make_ended(store)
        await trim(store, clock.now_us, keep=2)
        documents = await store.read(lambda tx: encoded_documents(tx, batch), visible=ALL)
        expected = await get_documents(store, batch)
        assert [one.rest for one in documents] == [
            ENCODER.condition(document) + ENCODER.last_change(document) for document in expected
        ]


# Another version of the encoder.


async def test_bytes_of_another_version_are_not_sent(path: Path, clock: Clock) -> None:
    async with opened(path, clock) as store:
        await make_varied(store)
    newer = CountingEncoder(version=2)
    async with opened(path, clock, newer) as store:
        await check(store, await get_batch(store), newer)
        await move(store, await get_batch(store), (0, started), (1, report_of(stage=Stage.PARSING)))
        await check(store, await get_batch(store), newer)
    async with opened(path, clock) as store:
        await check(store, await get_batch(store))
        await move(store, await get_batch(store), (1, report_of(stage=Stage.CLEANING)))
        await check(store, await get_batch(store))
        while await store.write(lambda tx: tx.encode(1), visible=ALL):
            pass
        await check(store, await get_batch(store))


async def test_two_versions_can_write_one_file_together(path: Path, clock: Clock) -> None:
    newer = CountingEncoder(version=2)
    async with opened(path, clock) as one, opened(path, clock, newer) as two:
        await create(one, documents=4)
        for number in range(4):
            for store in (one, two):
                move_ = started if store is one else report_of(stage=Stage.PARSING)
                batch = await move(store, await get_batch(store, BATCH_ID), (number, move_))
                for _ in range(2):
                    await store.write(lambda tx: tx.encode(1), visible=ALL)
                await check(one, batch)
                await check(two, batch, newer)
        for store in (one, two):
            while await store.write(lambda tx: tx.encode(1), visible=ALL):
                pass
        assert not await one.write(lambda tx: tx.encode(1), visible=ALL), "neither undoes the other"

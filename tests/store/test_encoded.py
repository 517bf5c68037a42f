"""What is kept encoded in an SQLite file is used, and only as long as the columns agree with it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils.utils import sqlite3

from stagecast.model import ALL, Batch, Document, Progress, Stage, Step, start_attempt
from stagecast.store import Encoder, Store
from stagecast.store.sqlite import SqliteStore
from stagecast.store.sqlite.migrations import NOT_ENCODED
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

    def __init__(self, version: int = ENCODER.version) -> None:
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
        return b"" if self.version == ENCODER.version else b"version %d" % self.version


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


async def test_condition_is_encoded_once_for_all_documents_that_have_it_and_the_log(
    path: Path, clock: Clock
) -> None:
    encoder = CountingEncoder()
    async with opened(path, clock, encoder) as store:
        batch = await create(store, documents=4)
        assert (encoder.identities, encoder.conditions) == (4, 1)
        parsed = report_of(stage=Stage.PARSING)
        await move(store, batch, (0, started), (1, started), (2, parsed))
        assert (encoder.identities, encoder.conditions) == (4, 3)
        await check(store, await get_batch(store))


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
        assert [fields for _, fields in documents] == [
            ENCODER.identity(document) + ENCODER.condition(document) + ENCODER.last_change(document)
            for document in expected
        ]


# Another version of the encoder.


@pytest.mark.parametrize("version", [1, 3])
async def test_bytes_of_another_version_are_not_sent(
    path: Path, clock: Clock, version: int
) -> None:
    async with opened(path, clock) as store:
        await make_varied(store)
    newer = CountingEncoder(version)
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


async def test_rows_of_an_older_version_are_encoded_anew(path: Path, clock: Clock) -> None:
    async with opened(path, clock, CountingEncoder(ENCODER.version - 1)) as store:
        await make_varied(store)
    encoder = CountingEncoder()
    async with opened(path, clock, encoder) as store:
        assert left_to_encode(path) > 0
        while await store.write(lambda tx: tx.encode(5), visible=ALL):
            pass
        encoder.identities = encoder.conditions = 0
        await read_all(store, await get_batch(store))
        assert (encoder.identities, encoder.conditions) == (0, 0)


async def test_older_version_can_write_to_the_same_file(path: Path, clock: Clock) -> None:
    older = CountingEncoder(version=1)
    async with opened(path, clock) as store, opened(path, clock, older) as other:
        await create(store, documents=4)
        for number in range(4):
            for writer in (store, other):
                move_ = started if writer is store else report_of(stage=Stage.PARSING)
                batch = await move(writer, await get_batch(writer, BATCH_ID), (number, move_))
                await store.write(lambda tx: tx.encode(1), visible=ALL)
                await check(store, batch)
                await check(other, batch, older)
        while await store.write(lambda tx: tx.encode(1), visible=ALL):
            pass
        assert not any(left_to_older_version(path)), "it does not undo what this one encodes"


def left_to_older_version(path: Path) -> Iterator[int]:
    """Yield how many rows of each table its release would encode, by its own query."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for table, condition in NOT_ENCODED.items():
            query = f"SELECT count(*) FROM {table} INDEXED BY {table}_to_encode WHERE {condition}"  # noqa: S608 - our own
            yield connection.execute(query).fetchone()[0]


# Steps, and the release before, which does not know them.


async def test_step_is_gone_when_the_release_before_has_moved_its_document(
    path: Path, clock: Clock, tmp_path: Path
) -> None:
    step = Step(name="pages", completed=3, total=7)
    async with opened(path, clock) as store:
        batch = await create(store, documents=4)
        in_step = report_of(stage=Stage.PARSING, progress=Progress(step=step))
        await move(store, batch, *((number, in_step) for number in range(4)))
    newer = tmp_path / "newer.db"
    shutil.copy(path, newer)
    async with opened(newer, clock) as store:
        later = (0, report_of(stage=Stage.INDEXING)), (1, report_of(progress=counted(4)))
        again = (2, lambda one, now: start_attempt(one, "other", now=now))
        await move(store, batch, *later, again)
    write_as_before(newer, path)
    async with opened(path, clock) as store:
        batch = await get_batch(store)
        steps = [one.progress.step for one in await get_documents(store, batch)]
        assert steps == [None, step, None, step]
        await check(store, batch)

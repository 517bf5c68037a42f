"""Servers of this release go on after one of the next release has migrated their file."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from stagecast.errors import StartError, StoreBusy
from stagecast.model import ALL, Stage
from stagecast.store.sqlite import SqliteStore, connection, inspect_file
from stagecast.store.sqlite.migrations import TO_ENCODE, breaking, migrations
from tests.builders import (
    ENCODER,
    counted,
    create,
    get_batch,
    get_documents,
    move,
    report_of,
    started,
)
from tests.clock import Clock
from tests.rpc.calls import contents, execute
from tests.store.encoded import check
from tests.store.encoded_rows import left_to_encode

Migration = Callable[[Database], None]


def add_only(db: Database) -> None:
    """Add columns and a table, and let rows be encoded by version 3 of the encoder."""
    db.execute("ALTER TABLE documents ADD COLUMN page TEXT")
    db.execute("ALTER TABLE transitions ADD COLUMN page TEXT NOT NULL DEFAULT 'none'")
    db.execute("ALTER TABLE datasets ADD COLUMN colour TEXT NOT NULL DEFAULT ''")
    db.execute("CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT")
    for table, key in (("documents", "position"), ("transitions", "revision")):
        db.execute(f"DROP INDEX {table}_to_encode")
        db.execute(
            f"CREATE INDEX {table}_to_encode ON {table} (batch, {key}) "
            f"WHERE {TO_ENCODE[table]} OR encoder_version < 3"
        )


@breaking
def rename(db: Database) -> None:
    db.execute("ALTER TABLE documents RENAME COLUMN worker TO worker_id")


@breaking
def change_values(db: Database) -> None:
    """Not even the schema shows it."""
    db.execute("UPDATE batches SET updated_at = updated_at * 1000")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stagecast.db"


@contextlib.asynccontextmanager
async def opened(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(
        path,
        clock=clock,
        encoder=ENCODER,
        on_commit=lambda _: None,
        on_foreign_commit=lambda: None,
    )
    try:
        yield store
    finally:
        await store.close()


def migrate_by_next_release(path: Path, *added: Migration) -> None:
    steps = [Migrations._Migration(one.__name__, one) for one in added]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "_migrations", [*migrations._migrations, *steps])
        connection.open_writer(path).close()


async def test_running_server_goes_on_after_a_migration_that_only_adds(
    path: Path, clock: Clock
) -> None:
    async with opened(path, clock) as store:
        batch = await create(store, documents=4)
        await move(store, batch, (0, started))
        migrate_by_next_release(path, add_only)
        execute(path, "UPDATE documents SET page = 'page 3'")
        await store.probe()
        await move(store, batch, (0, report_of(stage=Stage.PARSING)), (1, started))
        await move(store, batch, (1, report_of(progress=counted(1, 3))))
        other = await create(store, "other", documents=2)
        await check(store, await get_batch(store))
        await check(store, other)
        assert next(one.stage for one in await get_documents(store, batch)) is Stage.PARSING
    assert list(inspect_file(path).faults) == []
    with contextlib.closing(Database(path)) as db:
        names = "SELECT batch, page FROM documents ORDER BY batch"
        written = db.execute(names).fetchall()
    assert written == [*[(batch.key, "page 3")] * 4, *[(other.key, None)] * 2]


async def test_server_starts_on_a_file_of_the_next_release_that_only_added(
    path: Path, clock: Clock
) -> None:
    migrate_by_next_release(path, add_only)
    before = contents(path)["_sqlite_migrations"]
    for number in range(2):
        async with opened(path, clock) as store:
            await check(store, await create(store, f"batch {number}", documents=2))
    assert contents(path)["_sqlite_migrations"] == before
    assert list(inspect_file(path).faults) == []
    migrate_by_next_release(path, add_only)  # it is not applied again


async def test_rows_are_encoded_beside_the_next_release(path: Path, clock: Clock) -> None:
    async with opened(path, clock) as store:
        batch = await create(store, documents=3)
        migrate_by_next_release(path, add_only)
        for table in ("documents", "transitions"):
            execute(path, f"UPDATE {table} SET encoder_version = NULL")  # noqa: S608 - our own
        execute(path, "UPDATE documents SET encoded_identity = NULL")
        assert left_to_encode(path) == 3 + batch.revision
        while await store.write(lambda tx: tx.encode(2), visible=ALL):
            pass
        assert left_to_encode(path) == 0
        await check(store, await get_batch(store))


async def test_rows_that_the_next_release_has_encoded_are_left_alone(
    path: Path, clock: Clock
) -> None:
    """Otherwise the two would encode all rows in turns, for as long as they run together."""
    async with opened(path, clock) as store:
        batch = await create(store, documents=3)
        migrate_by_next_release(path, add_only)
        for table in ("documents", "transitions"):
            execute(path, f"UPDATE {table} SET encoder_version = 3")  # noqa: S608 - our own
        assert not await store.write(lambda tx: tx.encode(500), visible=ALL)
        await check(store, batch)
        await move(store, batch, (0, started))
        with contextlib.closing(Database(path)) as db:
            left = "SELECT count(*) FROM documents INDEXED BY documents_to_encode WHERE "
            left += f"{TO_ENCODE['documents']} OR encoder_version < 3"
            assert db.execute(left).fetchall() == [(1,)], "that release encodes what this one wrote"


@pytest.mark.parametrize("migration", [rename, change_values])
async def test_running_server_does_not_write_after_a_migration_that_breaks_with_it(
    path: Path, clock: Clock, migration: Migration
) -> None:
    async with opened(path, clock) as store:
        batch = await create(store, documents=1)
        migrate_by_next_release(path, add_only, migration)
        before = contents(path)
        for _ in range(2):
            with pytest.raises(StoreBusy, match=r"made by a newer release: unknown .*'add_only'"):
                await move(store, batch, (0, started))
            with pytest.raises(StoreBusy, match="use that release"):
                await store.probe()
        assert contents(path) == before


@pytest.mark.parametrize("migration", [rename, change_values])
async def test_server_does_not_start_on_a_file_of_a_release_that_breaks_with_it(
    path: Path, clock: Clock, migration: Migration
) -> None:
    migrate_by_next_release(path, migration)
    before = contents(path)
    with pytest.raises(StartError, match="made by a newer release"):
        async with opened(path, clock):
            pass
    assert contents(path) == before


async def test_file_that_does_not_tell_who_may_write_is_not_written(
    path: Path, clock: Clock
) -> None:
    migrate_by_next_release(path, add_only)
    execute(path, "PRAGMA user_version = 0")
    with pytest.raises(StartError, match="made by a newer release"):
        async with opened(path, clock):
            pass


async def test_probe_after_a_fault_keeps_who_may_write(path: Path, clock: Clock) -> None:
    async with opened(path, clock) as store:
        with contextlib.closing(Database(path)) as db:
            before = db.execute("PRAGMA user_version").fetchall()
        store._writer._failed = True
        await store.probe()
        with contextlib.closing(Database(path)) as db:
            assert db.execute("PRAGMA user_version").fetchall() == before != [(0,)]

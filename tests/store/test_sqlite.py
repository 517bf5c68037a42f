"""The SQLite store passes the contract suite; tests of its file, processes and crashes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

# The driver of the store: two SQLite libraries in one process would release each other's locks.
from sqlite_utils.utils import sqlite3

from stagecast.errors import StagecastError, StartError
from stagecast.model import ALL, Batch
from stagecast.store import Commits, ReadTransaction, WriteTransaction
from stagecast.store import get_batch as find_batch
from stagecast.store.sqlite import SqliteStore, connection, writer_thread
from tests.builders import (
    BATCH_ID,
    DATASET_ID,
    ENCODER,
    create,
    get_batch,
    get_dataset,
    get_documents,
    get_log,
    move,
    started,
)
from tests.clock import Clock
from tests.store.contract import DEADLINE_S, StoreContract

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stagecast.db"


@pytest.fixture
def committed() -> list[Commits]:
    return []


@pytest.fixture
async def store(path: Path, clock: Clock, committed: list[Commits]) -> AsyncIterator[SqliteStore]:
    async with opened(path, clock=clock, on_commit=committed.append) as store:
        yield store


@contextlib.asynccontextmanager
async def opened(
    path: Path,
    *,
    clock: Callable[[], int] | None = None,
    on_commit: Callable[[Commits], None] = lambda _names: None,
    on_foreign_commit: Callable[[], None] = lambda: None,
) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(
        path,
        clock=clock or Clock(),
        encoder=ENCODER,
        on_commit=on_commit,
        on_foreign_commit=on_foreign_commit,
    )
    try:
        yield store
    finally:
        await store.close()


@contextlib.contextmanager
def plain(path: Path) -> Iterator[Any]:
    """Open the file like another program."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
        yield other


class TestSqliteStore(StoreContract):
    """The contract suite on a real file."""


# The file.


async def test_reopened_file_has_all_data(path: Path) -> None:
    async with opened(path) as store:
        batch = await create(store, documents=3, labels={"k": "ü"})
        batch = await move(store, batch, (1, started))
        before = [
            batch,
            await get_dataset(store),
            await get_documents(store, batch),
            await get_log(store, batch),
        ]
    async with opened(path) as store:
        assert [
            await get_batch(store),
            await get_dataset(store),
            await get_documents(store, batch),
            await get_log(store, batch),
        ] == before
        assert (await move(store, batch, (2, started))).revision == batch.revision + 1


async def test_pragmas_are_set(path: Path, store: SqliteStore) -> None:
    def pragmas(tx: Any) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "query_only")
        return [tx._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await store.write(pragmas, visible=ALL) == ["wal", 2, 1, 0]
    journal_mode, _, foreign_keys, query_only = await store.read(pragmas, visible=ALL)
    assert (journal_mode, foreign_keys, query_only) == ("wal", 1, 1)
    with plain(path) as other:
        assert other.execute("PRAGMA application_id").fetchone()[0].to_bytes(4) == b"STGC"


def foreign_tables(path: Path) -> None:
    with plain(path) as other:
        other.execute("CREATE TABLE notes (text)")
        other.execute("INSERT INTO notes VALUES ('mine')")


def foreign_application(path: Path) -> None:
    with plain(path) as other:
        other.execute("PRAGMA application_id = 1")


def text_file(path: Path) -> None:
    path.write_bytes(b"# A list of things to do\n" * 200)


def later_release(path: Path) -> None:
    connection.open_writer(path).close()
    with contextlib.closing(Database(path)) as db:
        db.table("_sqlite_migrations").insert(
            {"migration_set": "stagecast", "name": "fold_space", "applied_at": "2030-01-01"}
        )
        db.execute("PRAGMA user_version = 99")  # this release must not write


@pytest.mark.parametrize("make", [foreign_tables, foreign_application, text_file, later_release])
async def test_foreign_or_newer_file_is_refused_and_unchanged(
    path: Path, make: Callable[[Path], None]
) -> None:
    make(path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(StartError, match=r"stagecast\.db"):
        async with opened(path):
            pass
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert [actual.name for actual in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["", "no/such/directory.db"])
async def test_invalid_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StartError, match="cannot"):
        async with opened(tmp_path / name):
            pass


async def test_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    async with opened(path) as store:
        await create(store)


# Several stores on one file.


async def test_commit_of_one_store_notifies_the_other(path: Path) -> None:
    notified = asyncio.Event(), asyncio.Event()
    async with (
        opened(path, on_foreign_commit=notified[0].set) as one,
        opened(path, on_foreign_commit=notified[1].set) as two,
    ):
        for writing, reading, own, other in ((one, two, *notified), (two, one, *notified[::-1])):
            own.clear()
            batch = await create(writing, f"by-{id(writing)}")
            for store in (one, two):
                store.check_foreign_commits()
            async with asyncio.timeout(DEADLINE_S):
                await other.wait()
            assert await get_batch(reading, batch.batch_id) == batch
            await writing.probe()  # it has checked since its commit
            assert not own.is_set()
            other.clear()


async def test_version_changes_with_each_commit_of_any_store_and_only_then(path: Path) -> None:
    async with opened(path) as one, opened(path) as two:
        versions = [one.version()]
        for writing in (one, two, one, two):
            batch = await create(writing, f"{len(versions)}")
            versions.append(one.version())
            assert one.version() == versions[-1]
            assert one.read_now(partial(_find, batch), visible=ALL) == batch
        assert len(set(versions)) == 5


def _find(batch: Batch, tx: ReadTransaction) -> Batch:
    return find_batch(tx, batch.dataset_id, batch.batch_id)


async def test_version_changes_when_a_copy_is_written_into_the_file(
    path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    async with opened(path) as store:
        await create(store, "before")
        with plain(path) as source, plain(copy) as target:
            source.backup(target)
        await create(store, "after")
        version = store.version()
        with plain(copy) as source, plain(path) as target:
            source.backup(target)
        assert store.version() != version


async def test_version_stays_the_same_through_a_checkpoint_and_is_right_after_it(
    path: Path,
) -> None:
    async with opened(path) as store:
        await create(store, "before")
        version = store.version()
        with plain(path) as other:
            other.execute("PRAGMA wal_checkpoint(FULL)").fetchall()
            assert store.version() == version
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            version = store.version()
            other.execute('UPDATE batches SET labels = \'{"a":"b"}\'')
        assert store.version() != version


async def test_version_is_never_the_same_during_a_fault(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as store:
        version = store.version()
        with contextlib.closing(sqlite3.connect(":memory:")) as broken:
            broken.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
            with monkeypatch.context() as fault:
                fault.setattr(store, "_connection_of_loop", broken)
                assert len({version, store.version(), store.version()}) == 3
        assert store.version() == version


async def test_two_stores_assign_the_revisions_of_one_batch(path: Path) -> None:
    async with opened(path) as one, opened(path) as two:
        batch = await create(one, documents=60)
        await asyncio.gather(
            *(move((one, two)[number % 2], batch, (number, started)) for number in range(60))
        )
        batch = await get_batch(one)
        assert batch == await get_batch(two)
        assert (batch.revision, batch.counts.running) == (122, 60)
        assert [t.revision for t in await get_log(two, batch)] == list(range(1, 123))


async def test_calls_that_come_while_another_store_writes_are_committed_together(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each turn of a process writes only the few that came before it waited."""
    commits: list[Commits] = []
    waits = asyncio.Event()
    loop = asyncio.get_running_loop()
    begin = connection.begin_to_write

    def begin_and_tell(writing: connection.Connection, *, meanwhile: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(waits.set)
        begin(writing, meanwhile=meanwhile)

    async with opened(path, on_commit=commits.append) as store:
        batch = await create(store, documents=3)
        commits.clear()
        with plain(path) as other:
            other.execute("BEGIN IMMEDIATE")
            monkeypatch.setattr(writer_thread, "begin_to_write", begin_and_tell)
            first = asyncio.create_task(move(store, batch, (0, started)))
            async with asyncio.timeout(DEADLINE_S):
                await waits.wait()
            later = [asyncio.create_task(move(store, batch, (n, started))) for n in (1, 2)]
            await asyncio.sleep(0)  # they are queued
            other.execute("ROLLBACK")
            await asyncio.gather(first, *later)
        assert len(commits) == 1


async def test_commit_of_another_store_is_noticed_by_a_writer_that_waited_for_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wake-up to check for it comes when the writer has the lock, with nothing to write."""
    noticed, waits, released = asyncio.Event(), asyncio.Event(), threading.Event()
    begin = connection.begin_to_write
    loop = asyncio.get_running_loop()

    def wait_and_begin(writing: connection.Connection, *, meanwhile: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(waits.set)
        released.wait()
        begin(writing, meanwhile=meanwhile)

    async with opened(path, on_foreign_commit=noticed.set) as store:
        await create(store)
        monkeypatch.setattr(writer_thread, "begin_to_write", wait_and_begin)
        probe = asyncio.create_task(store.probe())
        async with asyncio.timeout(DEADLINE_S):
            await waits.wait()
            with plain(path) as other:
                other.execute('UPDATE batches SET labels = \'{"a":"b"}\'')
                store.check_foreign_commits()
                released.set()
                await probe
                await noticed.wait()


async def test_failed_call_does_not_block_the_next_write(path: Path) -> None:
    async with opened(path) as one, opened(path) as two:
        batch = await create(one, documents=2)

        def refuse(tx: WriteTransaction) -> None:
            documents = tx.iterate_documents(batch)
            raise StagecastError(f"enough with {next(documents).document_id}")

        with pytest.raises(StagecastError) as caught:
            await one.write(refuse, visible=ALL)
        await move(two, batch, (0, started))
        assert (await move(one, batch, (1, started))).counts.running == 2
        assert caught.value.__traceback__ is not None  # which keeps the generator of the call alive


def test_threads_can_create_a_file_together(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def open_all(_number: int) -> int:
        for turn in range(8):
            together.wait(DEADLINE_S)
            connection.open_writer(tmp_path / f"{turn}.db").close()
        return turn

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(open_all, range(8))) == [7] * 8


OPEN_TOGETHER = "from tests.store.test_sqlite import open_on_signal; open_on_signal()"


def open_on_signal() -> None:
    """Open each file named on stdin, as soon as its line arrives."""

    async def open_once(path: Path, number: int) -> Batch:
        async with opened(path) as store:
            return await create(store, f"by-{number}")

    print("ready", flush=True)  # noqa: T201 - the parent reads it
    for line in sys.stdin:
        name, number = line.split()
        batch = asyncio.run(open_once(Path(name), int(number)))
        print(batch.revision, flush=True)  # noqa: T201 - the parent reads it


@pytest.mark.slow
async def test_processes_can_create_a_file_together(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        running = [await stack.enter_async_context(child(OPEN_TOGETHER)) for _ in range(4)]
        for process in running:
            assert await line_of(process) == "ready"
        for turn in range(30):
            for number, process in enumerate(running):
                process.stdin.write(f"{tmp_path / f'{turn}.db'} {number}\n".encode())
            assert [await line_of(process) for process in running] == ["2"] * 4
    async with opened(tmp_path / "29.db") as store:
        assert (await get_dataset(store)).batches == 4


def test_writer_waits_while_another_process_recovers_the_wal(path: Path) -> None:
    """After a kill, SQLite returns an extended busy code meanwhile."""

    class Recovering(sqlite3.Connection):
        polls = 0

        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql == "BEGIN IMMEDIATE" and self.polls < 3:
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY | 1 << 8  # SQLITE_BUSY_RECOVERY
                raise error
            return super().execute(sql, *parameters)

        def poll(self) -> None:
            self.polls += 1

    writer = sqlite3.connect(path, factory=Recovering, isolation_level=None)
    with contextlib.closing(writer):
        connection.begin_to_write(writer, meanwhile=writer.poll)
        assert writer.in_transaction
        assert writer.polls == 3


# Crashes.

COMMIT = "from tests.store.test_sqlite import commit_for_ever; commit_for_ever()"


def commit_for_ever() -> None:
    """Start documents of a new batch and print each revision once it is acknowledged."""

    async def commit(path: Path) -> None:
        async with opened(path) as store:
            batch = await create(store, documents=5_000)

            async def start(number: int) -> None:
                while number < 5_000:
                    after = await move(store, batch, (number, started))
                    print(after.revision, flush=True)  # noqa: T201 - the parent reads it
                    number += 4

            await asyncio.gather(*(start(number) for number in range(4)))

    asyncio.run(commit(Path(sys.stdin.readline().strip())))


@pytest.mark.parametrize("answers", [1, 7, 100])
async def test_what_was_acknowledged_survives_a_kill(path: Path, answers: int) -> None:
    acknowledged: list[int] = []
    async with child(COMMIT) as process:
        process.stdin.write(f"{path}\n".encode())
        while len(acknowledged) < answers:
            acknowledged.append(int(await line_of(process)))
        process.kill()
        rest = (await process.stdout.read()).decode()
    # Later lines are acknowledged as well; the last one may be truncated.
    acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    async with opened(path) as store:
        batch = await get_batch(store)
        log = await get_log(store, batch)
        assert batch.revision >= max(acknowledged)
        assert [t.revision for t in log] == list(range(1, batch.revision + 1))
        assert batch.counts == log[-1].counts == (await get_dataset(store)).counts
        assert batch.counts.running == batch.revision - 5_002
        await store.probe()


@contextlib.asynccontextmanager
async def child(code: str) -> AsyncIterator[Any]:
    """Run code in a separate process, which is killed at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def line_of(process: Any) -> str:
    async with asyncio.timeout(60):
        line: bytes = await process.stdout.readline()
        return line.decode().strip()


# Calls.


async def test_sql_error_is_a_bug_and_not_store_busy(store: SqliteStore) -> None:
    def call(tx: Any) -> None:
        tx._connection.execute("SELECT 1 FROM nowhere")

    for run in (store.read, store.write):
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            await run(call, visible=ALL)


async def test_cancelled_caller_does_not_affect_other_calls(store: SqliteStore) -> None:
    batch = await create(store, documents=2)
    gone = asyncio.create_task(move(store, batch, (0, started)))
    await asyncio.sleep(0)  # it is queued
    gone.cancel()
    # The cancelled call may have been written or not.
    assert (await move(store, batch, (1, started))).counts.running in (1, 2)
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_row_keys_are_never_reused(path: Path, store: SqliteStore) -> None:
    batch = await create(store)
    with plain(path) as other:
        for table in ("transitions", "documents"):
            other.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
        other.execute("DELETE FROM batches")
    assert (await create(store)).key > batch.key


async def test_unique_constraints_are_enforced(store: SqliteStore) -> None:
    batch = await create(store)
    with pytest.raises(sqlite3.IntegrityError):
        await create(store)
    assert await get_batch(store, BATCH_ID, DATASET_ID) == batch

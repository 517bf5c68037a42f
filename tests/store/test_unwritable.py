"""A file that cannot be written: locked by another program, on a full disk, or missing."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stagecast.errors import StartError, StoreBusy
from stagecast.model import ALL
from stagecast.store.sqlite import SqliteStore, connection
from tests.builders import ENCODER, create, get_batch, get_dataset, move, started
from tests.clock import Clock
from tests.store.test_sqlite import opened, plain


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stagecast.db"


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_MS", 30)


@pytest.mark.usefixtures("short_timeout")
async def test_locked_file_is_busy_until_it_is_unlocked(path: Path) -> None:
    async with opened(path) as store:
        batch = await create(store, documents=1)
        with plain(path) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreBusy) as busy:
                await move(store, batch, (0, started))
            assert busy.value.retry_after_s > 0
            with pytest.raises(StoreBusy):
                await store.probe()
            assert await get_batch(store) == batch  # reads succeed
            other.execute("ROLLBACK")
        await store.probe()
        assert (await move(store, batch, (0, started))).revision == batch.revision + 1


@pytest.mark.usefixtures("short_timeout")
async def test_calls_refused_by_a_locked_file_are_never_written(path: Path) -> None:
    async with opened(path) as store:
        with plain(path) as other:
            other.execute("BEGIN IMMEDIATE")
            answers = await asyncio.gather(
                *(create(store, batch_id=f"b{number}") for number in range(600)),
                return_exceptions=True,
            )
            assert {type(answer) for answer in answers} == {StoreBusy}
            other.execute("ROLLBACK")
        await store.probe()
        assert await store.read(lambda tx: list(tx.iterate_datasets(None)), visible=ALL) == []


@pytest.mark.usefixtures("short_timeout")
async def test_every_call_on_a_locked_file_is_answered(path: Path) -> None:
    async with opened(path) as store:
        await create(store)
        with plain(path) as other:
            other.execute("BEGIN IMMEDIATE")
            calls = [create(store, f"b-{number}") for number in range(50)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            other.execute("ROLLBACK")
        assert all(isinstance(answer, StoreBusy) for answer in answers)
        assert (await get_dataset(store)).batches == 1


@pytest.mark.usefixtures("short_timeout")
async def test_start_fails_if_the_file_stays_locked(path: Path) -> None:
    connection.open_writer(path).close()
    with plain(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StartError, match="locked; another program has held the write lock"):
            async with opened(path):
                pass


async def test_full_file_is_busy_until_there_is_space(path: Path) -> None:
    def allow(pages: int) -> Callable[[Any], None]:
        return lambda tx: tx._connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    async with opened(path) as store:
        batch = await create(store, documents=1)
        await store.write(allow(1), visible=ALL)  # no more pages
        with pytest.raises(StoreBusy, match="full"):
            await create(store, "large", documents=1_000)
        assert await get_batch(store) == batch
        await store.probe()
        await store.write(allow(1_000_000), visible=ALL)
        assert (await create(store, "large", documents=1_000)).counts.total == 1_000


@contextlib.contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Limit file sizes to that of the -wal file, so that nothing can be appended to it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_probe_after_a_fault_makes_a_commit(path: Path) -> None:
    """The lock alone proves nothing: it can be taken on a full disk as well."""
    async with opened(path) as store:
        batch = await create(store, documents=1)
        with full_disk(path):
            with pytest.raises(StoreBusy):
                await move(store, batch, (0, started))
            for _ in range(3):
                with pytest.raises(StoreBusy):
                    await store.probe()
        await store.probe()
        assert (await move(store, batch, (0, started))).revision == batch.revision + 1


async def test_fault_is_reported(path: Path) -> None:
    reported: list[Exception] = []
    store = SqliteStore(
        path,
        clock=Clock(),
        encoder=ENCODER,
        on_commit=lambda _: None,
        on_foreign_commit=lambda: None,
        on_fault=reported.append,
    )
    path.rename(path.with_suffix(".aside"))
    with pytest.raises(StoreBusy, match="deleted or replaced"):
        await create(store)
    await store.close()
    [fault] = reported
    assert isinstance(fault, StoreBusy)

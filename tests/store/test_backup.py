"""A copy is a consistent snapshot, complete or absent; an existing target stays."""

from __future__ import annotations

import asyncio
import random
import shutil
import threading
from pathlib import Path

import pytest

from stagecast.errors import StartError
from stagecast.store.sqlite import backup, copy_file, inspect_file
from stagecast.store.sqlite.connection import Connection
from stagecast.store.sqlite.database_files import open_existing
from stagecast.threads import run_cancellable
from tests.builders import create, get_batch, get_documents, get_log, move, started
from tests.clock import Clock
from tests.conditions import until
from tests.store.history import ended, make_ended, retried
from tests.store.test_integrity import change, opened
from tests.store.test_migrations import FILES


@pytest.fixture
async def path(tmp_path: Path, clock: Clock) -> Path:
    path = tmp_path / "s.db"
    async with opened(path, clock) as store:
        await make_ended(store, "ended")
        await create(store, "open", documents=2)
    path.chmod(0o640)
    return path


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


async def test_copy_has_the_contents_and_mode_of_the_file(
    path: Path, tmp_path: Path, clock: Clock
) -> None:
    target = tmp_path / "copies" / "c.db"
    target.parent.mkdir()
    assert copy_file(path, target, overwrite=False) == target.stat().st_size
    assert names(target.parent) == ["c.db"]
    assert target.stat().st_mode == path.stat().st_mode
    assert inspect_file(target) == inspect_file(path)
    async with opened(path, clock) as store, opened(target, clock) as copied:
        for batch_id in ("ended", "open"):
            batch = await get_batch(store, batch_id)
            assert await get_batch(copied, batch_id) == batch
            assert await get_documents(copied, batch) == await get_documents(store, batch)
            assert await get_log(copied, batch) == await get_log(store, batch)


async def test_copies_are_consistent_while_the_file_is_written(
    path: Path, tmp_path: Path, clock: Clock
) -> None:
    """Each has all writes acknowledged before it began, many of them in the -wal file."""
    async with opened(path, clock) as store:
        batch, done = await get_batch(store, "ended"), asyncio.Event()
        revision = batch.revision

        async def write() -> None:
            nonlocal revision
            while not done.is_set():
                number = random.randrange(3)
                moves = [(number, step) for step in (retried, started, ended)]
                revision = (await move(store, batch, *moves)).revision

        writing = asyncio.create_task(write())
        try:
            for copies in range(10):
                target, acknowledged = tmp_path / f"c-{copies}.db", revision
                await asyncio.to_thread(copy_file, path, target, overwrite=False)
                assert list(inspect_file(target).faults) == []
                async with opened(target, clock) as copied:
                    assert (await get_batch(copied, "ended")).revision >= acknowledged
        finally:
            done.set()
            await writing


def test_copy_of_an_older_file_is_not_migrated(tmp_path: Path) -> None:
    path, target = tmp_path / "s.db", tmp_path / "c.db"
    shutil.copy(FILES / "main_path.sqlite", path)
    copy_file(path, target, overwrite=False)
    with pytest.raises(StartError, match="older release"):
        inspect_file(target)


def test_existing_target_is_replaced_with_overwrite_only(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "c.db"
    target.write_text("mine")
    with pytest.raises(StartError, match=r"c\.db already exists"):
        copy_file(path, target, overwrite=False)
    assert target.read_text() == "mine"
    copy_file(path, target, overwrite=True)
    assert list(inspect_file(target).faults) == []
    assert names(tmp_path) == ["c.db", "s.db"]


async def test_target_in_use_is_never_overwritten(path: Path, tmp_path: Path, clock: Clock) -> None:
    linked = tmp_path / "linked.db"
    linked.symlink_to(path)
    before = path.read_bytes()
    for target in (path, linked):
        with pytest.raises(StartError, match="is the same file"):
            copy_file(path, target, overwrite=True)
    target = tmp_path / "used.db"
    async with opened(target, clock) as used:
        await create(used)
        with pytest.raises(StartError, match=r"may be in use: .*used\.db-wal exists"):
            copy_file(path, target, overwrite=True)
        assert (await get_batch(used)).revision == 2
    assert path.read_bytes() == before


def test_target_without_a_directory_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="there is no directory"):
        copy_file(path, tmp_path / "nowhere" / "c.db", overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_damaged_file_is_not_copied(path: Path, tmp_path: Path, overwrite: bool) -> None:
    target = tmp_path / "c.db"
    if overwrite:
        target.write_text("the previous copy")
    damaged = bytearray(path.read_bytes())
    damaged[-4096:] = random.Random(1).randbytes(4096)
    path.write_bytes(damaged)
    with pytest.raises(StartError, match=r"damaged|malformed"):
        copy_file(path, target, overwrite=overwrite)
    assert names(tmp_path) == (["c.db", "s.db"] if overwrite else ["s.db"])
    assert not overwrite or target.read_text() == "the previous copy"


@pytest.mark.parametrize("step", ["_copy", "_sync"])
def test_copy_that_fails_midway_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup, step, fail)
    with pytest.raises(StartError, match="No space left on device"):
        copy_file(path, tmp_path / "c.db", overwrite=False)
    assert names(tmp_path) == ["s.db"]


def test_copy_is_synced_before_and_after_it_gets_its_name(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, synced = tmp_path / "c.db", []
    copy, sync = backup._copy, backup._sync

    def copy_privately(source: Connection, part: Path) -> None:
        assert part.stat().st_mode & 0o777 == 0o600
        copy(source, part)

    def record_sync(path: Path) -> None:
        synced.append((path == tmp_path, target.exists()))
        sync(path)

    monkeypatch.setattr(backup, "_copy", copy_privately)
    monkeypatch.setattr(backup, "_sync", record_sync)
    copy_file(path, target, overwrite=False)
    assert synced == [(False, False), (True, True)]


def test_target_created_during_the_copy_stays(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, copy = tmp_path / "c.db", backup._copy

    def create_target(source: Connection, part: Path) -> None:
        copy(source, part)
        target.write_text("mine")

    monkeypatch.setattr(backup, "_copy", create_target)
    with pytest.raises(StartError, match=r"c\.db already exists"):
        copy_file(path, target, overwrite=False)
    assert target.read_text() == "mine"
    assert names(tmp_path) == ["c.db", "s.db"]


def test_only_a_stagecast_database_is_copied(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "c.db"
    with pytest.raises(StartError, match="there is no such file"):
        copy_file(tmp_path / "missing.db", target, overwrite=False)
    change(path, "PRAGMA application_id = 7")
    with pytest.raises(StartError, match="not a stagecast database"):
        copy_file(path, target, overwrite=False)
    assert names(tmp_path) == ["s.db"]


async def test_statement_on_an_existing_file_ends_once_it_is_cancelled(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun = threading.Event()

    def work() -> None:
        with open_existing(path) as connection:
            begun.set()
            connection.execute(
                "WITH RECURSIVE endless (n) AS (SELECT 1 UNION ALL SELECT 1 FROM endless) "
                "SELECT count(*) FROM endless"
            )

    running = asyncio.create_task(run_cancellable(work, doing="reading"))
    await until(begun.is_set)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert "gave up" not in caplog.text

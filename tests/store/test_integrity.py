"""A consistent file has no faults, after any operation; every fault is found and described."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlite_utils.utils import sqlite3

from stagecast.errors import StartError
from stagecast.model import ALL, Stage, pause, resume, stall
from stagecast.store import HistoryLimit
from stagecast.store import get_batch as find_batch
from stagecast.store.sqlite import SqliteStore, inspect_file, integrity
from stagecast.store.sqlite import connection as connections
from tests.builders import (
    DATASET_ID,
    ENCODER,
    ERROR,
    counted,
    create,
    get_batch,
    move,
    report_of,
    started,
)
from tests.clock import START_US, Clock
from tests.store.deletion import OTHER_DATASET_ID
from tests.store.history import ended, make_ended, retried
from tests.store.test_migrations import FILES

OF_OPEN = f"batch 'open' of dataset '{DATASET_ID}'"


@contextlib.asynccontextmanager
async def opened(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(
        path, clock=clock, encoder=ENCODER, on_commit=lambda _: None, on_foreign_commit=lambda: None
    )
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def path(tmp_path: Path, clock: Clock) -> Path:
    """A file with all kinds of history: ends, retries, counters, deletions, trimming."""
    path = tmp_path / "s.db"
    async with opened(path, clock) as store:
        trimmed = await make_ended(store, "trimmed")
        await store.write(
            lambda tx: tx.trim(HistoryLimit(ended_until=clock.now_us, keep=2), 100), visible=ALL
        )
        await move(store, trimmed, (0, retried), (0, started), (0, ended))
        await make_ended(store, "ended")
        await make_ended(store, "deleted")
        await store.write(
            lambda tx: tx.delete_batches([find_batch(tx, DATASET_ID, "deleted")]), visible=ALL
        )
        clock.advance(5)
        batch = await create(store, "open", documents=6, sealed=False)
        paused, resumed = (
            lambda actual, now: pause(actual, now=now),
            lambda actual, _: resume(actual),
        )
        await move(store, batch, *[(number, started) for number in range(5)])
        await move(store, batch, (0, ended), (1, report_of(error=ERROR)), (2, paused), (2, resumed))
        await move(store, batch, (3, report_of(progress=counted(7, 9))), (4, lambda d, _: stall(d)))
        await move(store, batch, (2, report_of(stage=Stage.INDEXING, progress=counted(3))))
        await create(store, "other", dataset_id=OTHER_DATASET_ID)
    return path


def change(path: Path, *statements: str) -> None:
    """Run statements on the file; `:open` is the key of the open batch."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        [key] = connection.execute("SELECT id FROM batches WHERE batch_id = 'open'").fetchone()
        for statement in statements:
            connection.execute(statement, {"open": key})


def test_consistent_file_has_no_faults_and_totals(path: Path) -> None:
    actual = inspect_file(path)
    assert list(actual.faults) == []
    assert (actual.datasets, actual.batches, actual.documents) == (2, 4, 12)
    assert actual.transitions == 11 + 5 + 18 + 2


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE documents SET due_at = NULL WHERE position = 0", "state 1, stalled 0, heard at"),
        ("UPDATE documents SET due_at = 5, heard_at = 5 WHERE position = 1", "stalled 1, heard at"),
    ],
)
async def test_wrong_timer_of_a_pending_document_is_found(
    tmp_path: Path, clock: Clock, statement: str, expected: str
) -> None:
    path = tmp_path / "s.db"
    async with opened(path, clock) as store:
        batch = await create(store, "open", documents=2, start_after_us=1, seal_after_us=1)
        await move(store, batch, (1, lambda d, _: stall(d)))
    assert list(inspect_file(path).faults) == []
    change(path, statement)
    [fault] = inspect_file(path).faults
    assert expected in fault


def test_file_is_not_changed(path: Path) -> None:
    before = path.read_bytes()
    inspect_file(path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["s.db"]


# Statements that damage the file, and the begin and a part of the fault.
DOCUMENT_3 = f"document 'doc-3' of {OF_OPEN}"
FAULTS = {
    "count": (
        "UPDATE batches SET running = 5 WHERE batch_id = 'open'",
        OF_OPEN,
        "running is 5, not 3",
    ),
    "segments": (
        "UPDATE batches SET segments_total = 1, segments_completed = 2 WHERE batch_id = 'open'",
        OF_OPEN,
        "segments_completed is 2, not 10, segments_total is 1, not 9",
    ),
    "counts_without_documents": (
        "DELETE FROM documents WHERE batch = :open",
        OF_OPEN,
        "pending is 1, not 0",
    ),
    "batches": (
        "UPDATE datasets SET batches = 7 WHERE id = 1",
        f"dataset '{DATASET_ID}'",
        "batches is 7, not 3",
    ),
    "open_batches": (
        "UPDATE datasets SET open_batches = 0, pending_batches = 1 WHERE id = 1",
        f"dataset '{DATASET_ID}'",
        "open_batches is 0, not 1, pending_batches is 1, not 0",
    ),
    "counts_of_dataset": (
        "UPDATE datasets SET succeeded = 0 WHERE id = 1",
        f"dataset '{DATASET_ID}'",
        "succeeded is 0, not 7",
    ),
    "last_ended": (
        "UPDATE datasets SET last_ended = 7 WHERE id = 2",
        f"dataset '{OTHER_DATASET_ID}'",
        "last_ended is 7, but no batch has that state",
    ),
    "change_seq": (
        (
            "UPDATE datasets SET change_seq = (SELECT change_seq FROM datasets WHERE id = 1) "
            "WHERE id = 2"
        ),
        f"dataset '{OTHER_DATASET_ID}'",
        "is not unique",
    ),
    "change_seq_of_removed": (
        "INSERT INTO removed_datasets SELECT change_seq, 'x' FROM datasets WHERE id = 2",
        f"dataset '{OTHER_DATASET_ID}'",
        "is not unique",
    ),
    "gap": (
        "DELETE FROM transitions WHERE batch = :open AND revision = 4",
        OF_OPEN,
        "its log from revision 1 to 18 has gaps (transitions: 17)",
    ),
    "begin_of_log": (
        "DELETE FROM transitions WHERE batch = :open AND revision = 1",
        OF_OPEN,
        "first_revision is 1, not 2",
    ),
    "end_of_log": (
        "DELETE FROM transitions WHERE batch = :open AND revision = 18",
        OF_OPEN,
        "revision is 18, not 17",
    ),
    "whole_log": (
        "DELETE FROM transitions WHERE batch = :open",
        OF_OPEN,
        "first_revision is 1, not None, revision is 18, not None",
    ),
    "revision": (
        "UPDATE batches SET revision = 99 WHERE batch_id = 'open'",
        OF_OPEN,
        "revision is 99, not 18",
    ),
    "kind": (
        "UPDATE transitions SET kind = 77 WHERE batch = :open AND revision = 5",
        OF_OPEN,
        "revision 5 has kind 77",
    ),
    "position": (
        "UPDATE transitions SET position = 66 WHERE batch = :open AND revision = 5",
        OF_OPEN,
        "position 66, which does not exist",
    ),
    "time": (
        "UPDATE transitions SET committed_at = 5 WHERE batch = :open AND revision = 5",
        OF_OPEN,
        "revision 5 has an earlier commit time than the previous revision",
    ),
    "counts_of_log": (
        "UPDATE transitions SET failed = 3, sealed = 1 WHERE batch = :open AND revision = 18",
        OF_OPEN,
        "sealed is 0, not 1, failed is 1, not 3",
    ),
    "document_stage": (
        "UPDATE documents SET stage = 3 WHERE batch = :open AND position = 3",
        DOCUMENT_3,
        "stage is 3, not 1",
    ),
    "document_worker": (
        "UPDATE documents SET worker = 'x' WHERE batch = :open AND position = 3",
        DOCUMENT_3,
        "worker is 'x', not 'wörker-1'",
    ),
    "document_behind": (
        "UPDATE documents SET revision = 5 WHERE batch = :open AND position = 3",
        DOCUMENT_3,
        "revision is 5, not 11",
    ),
    "document_without_log": (
        "UPDATE transitions SET position = 2 WHERE batch = :open AND position = 3",
        DOCUMENT_3,
        "revision is 11, not None",
    ),
    "state": (
        "UPDATE documents SET state = 9 WHERE batch = :open AND position = 3",
        DOCUMENT_3,
        "state 9, stage 1, stalled 0 and error None are inconsistent",
    ),
    "stage": (
        "UPDATE documents SET stage = 7 WHERE batch = :open AND position = 3",
        DOCUMENT_3,
        "stage 7, stalled 0 and error None are inconsistent",
    ),
    "error": (
        "UPDATE documents SET error_reason = 'X' WHERE batch = :open AND position = 3",
        DOCUMENT_3,
        "error 'X' are inconsistent",
    ),
    "completed": (
        "UPDATE documents SET stage = 6 WHERE batch = :open AND position = 3",
        DOCUMENT_3,
        "stage 6, stalled 0 and error None are inconsistent",
    ),
    "stalled": (
        "UPDATE documents SET stalled = 1 WHERE batch = :open AND position = 0",
        f"document 'doc-0' of {OF_OPEN}",
        "state 4, stage 6, stalled 1",
    ),
    "end": (
        "UPDATE batches SET ended_at = 5 WHERE batch_id = 'open'",
        OF_OPEN,
        "state 2 and end 5 are inconsistent",
    ),
    "no_end": (
        "UPDATE batches SET ended_at = NULL WHERE batch_id = 'ended'",
        f"batch 'ended' of dataset '{DATASET_ID}'",
        "state 4 and end None are inconsistent",
    ),
    "no_timer": (
        "UPDATE documents SET due_at = NULL WHERE batch = :open AND position = 2",
        f"document 'doc-2' of {OF_OPEN}",
        f"state 2, stalled 0, heard at {START_US + 5_000_000} and due at None",
    ),
    "timer_of_ended": (
        "UPDATE documents SET due_at = 7 WHERE batch = :open AND position = 0",
        f"document 'doc-0' of {OF_OPEN}",
        "and due at 7 are inconsistent",
    ),
    "timer_without_begin": (
        "UPDATE documents SET heard_at = NULL WHERE batch = :open AND position = 2",
        f"document 'doc-2' of {OF_OPEN}",
        "heard at None and due at",
    ),
    "progress_seq_beyond": (
        "UPDATE documents SET progress_seq = 9 WHERE batch = :open AND position = 3",
        DOCUMENT_3,
        "its counters have progress_seq 9",
    ),
    "progress_seq_shared": (
        "UPDATE documents SET progress_seq = 1 WHERE batch = :open AND position = 2",
        DOCUMENT_3,
        "its counters have progress_seq 1",
    ),
    "epoch": ("DELETE FROM progress_epochs", OF_OPEN, "progress_seq is 1, not 0"),
    "secret": ("DELETE FROM secrets", "the secret of page tokens is missing", ""),
    "short_secret": ("UPDATE secrets SET page_secret = x'00'", "the secret of page tokens", ""),
    "orphan": (
        "UPDATE documents SET batch = 99 WHERE position = 5",
        "a row of documents (key unknown)",
        "has no parent in batches",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found_and_described(path: Path, name: str) -> None:
    statement, where, what = FAULTS[name]
    change(path, statement)
    faults = inspect_file(path).faults
    assert any(fault.startswith(where) and what in fault for fault in faults), faults
    assert all("\n" not in fault for fault in faults)


def test_deleted_rows_are_not_checked(path: Path) -> None:
    change(
        path,
        "DELETE FROM transitions WHERE batch = (SELECT id FROM batches WHERE state = 0)",
        "UPDATE batches SET pending = 5 WHERE state = 0",
    )
    assert list(inspect_file(path).faults) == []


async def test_faults_of_a_kind_are_limited(path: Path, clock: Clock) -> None:
    async with opened(path, clock) as store:
        await create(store, "many", documents=150)
    change(path, "UPDATE transitions SET kind = 50")
    faults = inspect_file(path).faults
    assert sum("has kind" in fault for fault in faults) == 100
    assert "… and more of this kind" in faults


def test_damaged_pages_are_found(path: Path) -> None:
    whole = path.read_bytes()
    for seed in range(8):
        rng = random.Random(seed)
        damaged = bytearray(whole)
        start = rng.randrange(4096, len(damaged) - 4096) // 4096 * 4096
        damaged[start : start + 4096] = rng.randbytes(4096)
        path.write_bytes(damaged)
        try:
            faults = inspect_file(path).faults
        except StartError as error:  # the release cannot be read
            faults = [str(error).removeprefix(f"cannot use {path}: ")]
        assert faults
        assert re.match("damaged(: |, or)|cannot be read to the end: ", faults[0])
        assert all("\n" not in fault for fault in faults)


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        (None, "there is no such file"),
        (b"", "is empty"),
        (b"This is not a database file" * 100, "file is not a database"),
    ],
    ids=["missing", "empty", "text"],
)
def test_other_file_is_refused(tmp_path: Path, contents: bytes | None, why: str) -> None:
    path = tmp_path / "s.db"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(StartError, match=why):
        inspect_file(path)
    assert path.exists() == (contents is not None)
    with pytest.raises(StartError, match="it is a directory"):
        inspect_file(tmp_path)


@pytest.mark.parametrize(
    ("statements", "why"),
    [
        (["PRAGMA application_id = 7"], "not a stagecast database"),
        (
            [
                "INSERT INTO _sqlite_migrations VALUES (99, 'stagecast', 'later', '')",
                "PRAGMA user_version = 99",
            ],
            "made by a newer release: unknown migration 'later'; use that release",
        ),
    ],
    ids=["foreign", "newer"],
)
def test_foreign_or_newer_database_is_refused(
    path: Path, statements: Sequence[str], why: str
) -> None:
    change(path, *statements)
    with pytest.raises(StartError, match=why):
        inspect_file(path)


def test_older_file_is_consistent_after_migration(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    shutil.copy(FILES / "main_path.sqlite", path)
    with pytest.raises(StartError, match="older release; run `stagecast serve` to upgrade it"):
        inspect_file(path)
    connections.open_writer(path).close()
    actual = inspect_file(path)
    assert (list(actual.faults), actual.batches) == ([], 7)


async def test_file_is_consistent_while_it_is_written(path: Path, clock: Clock) -> None:
    async with opened(path, clock) as store:
        done = asyncio.Event()

        async def write() -> None:
            rng = random.Random(5)
            batch = await get_batch(store, "ended")
            while not done.is_set():
                number = rng.randrange(3)
                await move(store, batch, (number, retried), (number, started), (number, ended))

        writing = asyncio.create_task(write())
        try:
            for _ in range(10):
                assert list((await asyncio.to_thread(inspect_file, path)).faults) == []
        finally:
            done.set()
            await writing


def test_check_sees_the_snapshot_of_its_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damage_meanwhile(_row: object) -> str:
        change(path, "UPDATE batches SET running = 5 WHERE batch_id = 'open'")
        return ""

    monkeypatch.setattr(integrity, "_describe_damage", damage_meanwhile)
    assert list(inspect_file(path).faults) == []
    monkeypatch.undo()
    assert len(inspect_file(path).faults) > 0

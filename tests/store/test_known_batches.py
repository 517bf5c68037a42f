"""What the writer remembers between transactions is never older than the file."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from sqlite_utils.utils import sqlite3

from stagecast.errors import BatchNotFound, StoreBusy
from stagecast.model import (
    ALL,
    BatchEdit,
    Document,
    DocumentCounts,
    DocumentState,
    Stage,
    evolve,
    register,
    stop,
)
from stagecast.store import Wanted, WriteTransaction, get_batch, get_dataset
from stagecast.store.sqlite import SqliteStore, inspect_file, known_batches
from stagecast.store.sqlite.rows import condition_to_row, document_from_row, identity_to_row
from tests.builders import (
    BATCH_ID,
    DATASET_ID,
    ERROR,
    create,
    get_documents,
    move,
    register_documents,
    report_of,
    started,
)
from tests.builders import get_batch as read_batch
from tests.conditions import until
from tests.faults import hanging_writes
from tests.store.changes import NAME, together
from tests.store.deletion import OTHER_DATASET_ID
from tests.store.test_sqlite import opened, plain

parsing, ended = report_of(stage=Stage.PARSING), report_of(stage=Stage.COMPLETED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with opened(path) as store:
        yield store
    assert list(inspect_file(path).faults) == []


@contextlib.contextmanager
def traced(store: SqliteStore) -> Iterator[list[str]]:
    """Collect the statements of the writer."""
    statements: list[str] = []
    store._connection.set_trace_callback(lambda sql: statements.append(" ".join(sql.split())))
    try:
        yield statements
    finally:
        store._connection.set_trace_callback(None)


def count(statements: list[str], begin: str) -> int:
    return sum(statement.startswith(begin) for statement in statements)


async def test_known_documents_are_not_read_again(store: SqliteStore) -> None:
    batch = await create(store, documents=3)
    await move(store, batch, (0, started), (1, started))
    with traced(store) as statements:
        await move(store, batch, (0, parsing), (1, parsing))
    assert count(statements, "SELECT") == count(statements, "WITH") == 0
    assert count(statements, "UPDATE documents") == 2


async def test_group_writes_each_row_once(store: SqliteStore) -> None:
    batch = await create(store, documents=20)
    stages = (Stage.PARSING, Stage.CLEANING, Stage.INDEXING)
    calls = [
        move(store, batch, (number, report_of(stage=stage)))
        for stage in stages
        for number in range(20)
    ]
    with traced(store) as statements:
        await together(store, *calls)
    assert count(statements, "UPDATE documents") == 20
    assert count(statements, "INSERT INTO transitions") == 60
    assert count(statements, "UPDATE batches") == count(statements, "UPDATE datasets") == 1
    assert count(statements, "COMMIT") == 2  # with that of the call that held the writer


async def test_rows_are_written_in_one_order(store: SqliteStore) -> None:
    """Batches by key, then datasets by id, in whatever order the calls come."""
    names = [(OTHER_DATASET_ID, "b-0"), (DATASET_ID, "b-1"), (OTHER_DATASET_ID, "b-2")]
    batches = [await create(store, name, documents=1, dataset_id=of) for of, name in names]
    assert OTHER_DATASET_ID < DATASET_ID
    with traced(store) as statements:
        await together(store, *(move(store, one, (0, started)) for one in reversed(batches)))
    ends = [one.split(" WHERE ")[1] for one in statements if one.startswith("UPDATE batches")]
    assert ends == [f"id = {batch.key}" for batch in batches]
    ends = [one.split(" WHERE ")[-1] for one in statements if one.startswith("UPDATE datasets")]
    assert ends == [f"dataset_id = '{name}'" for name in (OTHER_DATASET_ID, DATASET_ID)]

    def edited(tx: WriteTransaction) -> list[int]:
        return [edit.batch.key for edit in tx.edit(dict.fromkeys(reversed(names), Wanted()))]

    assert await store.write(edited, visible=ALL) == [batch.key for batch in batches]


async def test_whole_batch_is_changed_among_calls_on_others(store: SqliteStore) -> None:
    await create(store, "one", documents=3)
    other = await create(store, "other", documents=3)
    decided = []

    def decide(edit: BatchEdit) -> int:
        decided.append(edit)
        for document in [*edit.documents.values()]:
            edit.apply(document, stop(document, now=edit.now))
        return len(edit.changed)

    async with hanging_writes(store):
        moving = asyncio.create_task(move(store, other, (0, started), (1, started)))
        await until(lambda: len(store._writer._calls) == 1)
        every = Wanted(states=[*DocumentState])
        stopping = asyncio.create_task(
            store.change((DATASET_ID, "one"), every, decide, visible=ALL)
        )
        await until(lambda: len(store._writer._calls) == 2)
    assert (await stopping, len(decided)) == (3, 1)
    assert (await read_batch(store, "one")).counts == DocumentCounts(stopped=3)
    assert await read_batch(store, "other") == await moving
    documents = await get_documents(store, other)
    assert [one.state.name for one in documents] == ["RUNNING", "RUNNING", "PENDING"]


async def test_collector_resumes_when_no_document_of_a_whole_batch_is_left(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would walk through all of them, while everybody waits."""
    await create(store, documents=3)
    references: list[weakref.ref[Document]] = []
    alive: list[bool] = []

    def decide(edit: BatchEdit) -> None:
        stopped = (edit.apply(one, stop(one, now=edit.now)) for one in [*edit.documents.values()])
        references.extend(map(weakref.ref, stopped))

    def enable(enable: Callable[[], None] = gc.enable) -> None:
        deadline = time.monotonic() + 10
        while any(one() for one in references) and time.monotonic() < deadline:
            time.sleep(0.001)  # the writer's thread has answered and is about to drop them
        alive.append(any(one() for one in references))
        enable()

    monkeypatch.setattr(known_batches, "_MAX_RECORDS", 0)
    monkeypatch.setattr(gc, "enable", enable)
    await store.change(NAME, Wanted(states=[*DocumentState]), decide, visible=ALL)
    assert len(references) == 3
    assert alive == [False]


async def test_write_of_another_process_is_noticed(store: SqliteStore, path: Path) -> None:
    batch = await create(store, documents=2)
    await move(store, batch, (0, started), (1, started))
    async with opened(path) as other:
        await move(other, batch, (0, parsing))
        assert (await move(store, batch, (0, parsing))).revision == 7, "a duplicate"
        assert (await move(store, batch, (1, parsing))).revision == 8
        assert (await move(other, batch, (0, ended), (1, ended))).revision == 10
        assert (await move(store, batch, (1, ended))).counts == DocumentCounts(succeeded=2)


async def test_copy_that_is_written_into_the_file_is_noticed(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    batch = await create(store, documents=2)
    await move(store, batch, (0, started))
    copy = tmp_path / "copy.db"
    with plain(path) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    await move(store, batch, (0, parsing), (1, parsing))
    with plain(copy) as source, plain(path) as target:
        source.backup(target)
    after = await move(store, batch, (1, started))
    assert (after.revision, after.counts.running) == (6, 2)
    [first, _] = await get_documents(store, after)
    assert first.stage is Stage.WAITING


async def test_group_that_is_rolled_back_is_forgotten(store: SqliteStore) -> None:
    batch = await create(store, documents=3)
    await move(store, batch, (0, started))

    def fail(tx: WriteTransaction) -> None:
        tx.delete_dataset(get_dataset(tx, DATASET_ID))
        raise RuntimeError("broken")

    answers = await together(
        store,
        move(store, batch, (0, parsing), (1, started)),
        store.write(fail, visible=ALL),
        move(store, batch, (1, parsing), (2, started)),
    )
    assert isinstance(answers[1], RuntimeError)
    assert [answers[0].revision, answers[2].revision] == [8, 10]
    after = await move(store, batch, (2, parsing))
    assert after == await read_batch(store)
    assert {one.stage for one in await get_documents(store, after)} == {Stage.PARSING}


async def test_commit_that_fails_is_forgotten(store: SqliteStore, path: Path) -> None:
    """The file is moved away, as `rm` would, and put back."""
    batch = await create(store, documents=2)
    await move(store, batch, (0, started))
    aside = path.with_suffix(".aside")
    path.rename(aside)
    with pytest.raises(StoreBusy):
        await move(store, batch, (0, parsing), (1, started))
    aside.rename(path)
    after = await move(store, batch, (1, started))
    assert (after.revision, after) == (6, await read_batch(store))
    assert (await move(store, batch, (0, parsing))).revision == 7


async def test_change_of_a_replaced_file_is_not_answered_from_memory(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    batch = await create(store, documents=1)
    await move(store, batch, (0, started))
    other, aside = tmp_path / "other.db", tmp_path / "aside.db"
    async with opened(other):
        pass
    path.rename(aside)
    other.rename(path)
    with pytest.raises(StoreBusy, match="replaced"):
        await move(store, batch, (0, started))  # changes nothing
    aside.rename(path)
    assert (await move(store, batch, (0, parsing))).revision == 5


@pytest.mark.parametrize("whole", [False, True])
async def test_deleted_batch_is_forgotten(store: SqliteStore, whole: bool) -> None:
    batch = await create(store, documents=2)
    await move(store, batch, (0, started))

    def delete(tx: WriteTransaction) -> None:
        if whole:
            tx.delete_dataset(get_dataset(tx, DATASET_ID))
        else:
            tx.delete_batches([get_batch(tx, *NAME)])

    answers = await together(
        store,
        move(store, batch, (1, started)),
        store.write(delete, visible=ALL),
        move(store, batch, (0, parsing)),
        create(store, documents=1),
        move(store, batch, (0, started)),
    )
    assert isinstance(answers[2], BatchNotFound)
    assert answers[4].key > batch.key
    assert (answers[4].revision, answers[4].counts) == (4, DocumentCounts(running=1))
    assert (await move(store, batch, (0, parsing))).revision == 5


async def test_memory_is_bounded(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_batches, "_MAX_RECORDS", 10)
    batches = [await create(store, f"b-{number}", documents=4) for number in range(4)]
    for batch in batches * 2:
        for number in range(4):
            await move(store, batch, (number, started))
            known = store._writer._known
            documents = sum(len(one.documents) for one in known.batches.values())
            assert documents + len(known.batches) + len(known.datasets) <= 10
    for batch in batches:
        assert (await read_batch(store, batch.batch_id)).counts.running == 4
    assert BATCH_ID not in {name for _, name in store._writer._known.batches}


async def test_renamed_datasets_fill_the_memory(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_batches, "_MAX_RECORDS", 10)
    names = [str(uuid.uuid4()) for _ in range(12)]
    for name in names:
        await create(store, dataset_id=name)
    for name in names:
        await store.write(partial(_rename, name), visible=ALL)
        assert len(store._writer._known.datasets) <= 10


def _rename(dataset_id: str, tx: WriteTransaction) -> None:
    tx.name_dataset(dataset_id, "renamed")


async def test_long_documents_fill_the_memory_sooner(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_batches, "_MAX_RECORDS", 100)
    labels = {"k": "v" * 9_000}
    await create(store, sealed=False)
    for is_known in (True, True, False):
        await store.change(
            NAME, Wanted(), lambda edit: register_documents(edit, 1, labels=labels), visible=ALL
        )
        assert bool(store._writer._known.batches) is is_known
    batch = await create(store, "failing", documents=3)
    long = report_of(error=replace(ERROR, message="m" * 9_000))
    for number, is_known in enumerate((True, True, False)):
        await move(store, batch, (number, long))
        assert bool(store._writer._known.batches) is is_known


async def test_whole_batch_of_another_history_is_decided_again(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    """A copy is written into the file meanwhile, in which the batch looks just the same."""
    batch = await create(store, documents=2)
    copy = tmp_path / "copy.db"
    with plain(path) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    before = await move(store, batch, (0, started))
    decided, held = [], threading.Event()

    def decide(edit: BatchEdit) -> list[str]:
        decided.append(edit)
        held.wait()
        for document in [*edit.documents.values()]:
            edit.apply(document, stop(document, now=edit.now))
        return [*edit.changed]

    running = Wanted(states=[DocumentState.RUNNING])
    stopping = asyncio.create_task(store.change(NAME, running, decide, visible=ALL))
    await until(lambda: bool(decided))
    with plain(copy) as source, plain(path) as target:
        source.backup(target)
    assert await move(store, batch, (1, started)) == before
    held.set()
    assert await stopping == ["doc-1"]
    assert len(decided) == 2


def test_document_that_was_read_takes_no_more_memory_than_a_new_one() -> None:
    """A `Stop` of 100,000 documents has each of them before and after."""
    document = register(
        dataset_id=DATASET_ID,
        batch_id=BATCH_ID,
        document_id="a",
        position=0,
        display_name="",
        labels={},
        now=1,
    )
    row = (*identity_to_row(document), *condition_to_row(document))
    read = document_from_row(
        (*row, document.revision, document.updated_at), document.dataset_id, document.batch_id
    )
    assert read == document
    for one in (read, evolve(read, revision=2)):
        assert sys.getsizeof(vars(one)) <= sys.getsizeof(vars(evolve(document, revision=2)))
